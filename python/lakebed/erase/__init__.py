"""Erasure of a person's (or household's, account's) data, in rows, files, history and catalogue."""

PATTERNS = ["pat-gdpr-erase"]
