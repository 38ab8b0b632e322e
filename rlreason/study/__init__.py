"""From many run folders to tables, statistics, figures and one report.

Everything is read from files; nothing here needs torch, vLLM or W&B.
"""
