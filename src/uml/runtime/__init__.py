"""Workers: who may start, who must leave, and the processes themselves."""
