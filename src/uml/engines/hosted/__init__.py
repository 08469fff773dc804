"""What engines that are libraries share: chat templates, text from tokens, thoughts and calls of tools in it.

Runs in workers. What it needs beside uml is numpy and jinja2, and is imported where it is used.
"""
