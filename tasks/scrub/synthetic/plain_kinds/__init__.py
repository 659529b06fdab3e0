"""Text in which there is nobody, one file a kind, and its words.

A file holds one template a line, or, where lines that say only `%` stand in it, templates of
several lines between those. The syntax is that of the templates of personal data; slots that name
an entity make a labelled text of the same kind.
"""
