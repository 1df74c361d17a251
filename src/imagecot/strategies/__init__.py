"""Searches: which paths live, one strategy a file, and the trace of what they did.

A strategy declares its options (`Settings`), what it needs, how many paths it draws, how it chooses and how a study
replays it on recorded paths (`imagecot.contracts.Strategy`). A new one is one file, named `package.module:Class`.
"""
