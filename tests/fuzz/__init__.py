"""`make fuzz`: everything that reads what others have written, with inputs that nobody meant to write.

targets: what is tried, and which errors are an answer. __main__: how many, with which engine.
"""
