"""From logits to a token, for every hosted engine: samplers, penalties, bans and structured output.

`settings.Settings` says what a request asks for; `chain.Chain` does it, one for each answer;
`grammar.Grammar` tells what a structure allows next. Rows of numbers are numpy's, so whoever imports `chain`
or `grammar` needs numpy; `settings` and `order` are read by the core, too, and need nothing.
"""
