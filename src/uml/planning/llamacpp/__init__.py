"""What llama.cpp takes, reckoned from a header: its rules, and the graph that it draws."""
