"""What the project needs beside the package: the demo, generated pages, coverage floors."""
