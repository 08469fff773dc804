"""llama.cpp: GGUF files on processors and GPUs, embedded (xllamacpp) or by a `llama-server` program.

One idea a file: `spec` what it is, `meaning` what a plan means to it, `table` its options (of the kinds in
`rows`), `checks` what it must never see, `order` what a worker is told, `engine` the parent's side, `embedded` the
child's, `causes` why it died, `build` what it was made for. Nothing is imported here: the child starts with
`embedded` alone.
"""
