"""LaTeX papers. Read paper.py first.

    paper.py          the whole way: files → source → sections, citations, bibliography
    corpus.py         which file is a paper, which a part of one
    files.py          a paper's file and what it includes
    clean.py          source without comments; verbatim put aside
    scan.py           source, token by token
    macros.py         a paper's own macros, expanded within bounds
    commands.py       what LaTeX's own commands come to in a text
    algorithms.py     the commands of algorithms
    cite.py           the citation commands
    numbers.py        cross-references
    parts.py          title, abstract and sections, cut apart
    text.py           source to Unicode text, by pylatexenc
    marks.py          private characters that carry places through LaTeX
    front.py          a paper's id, other names and authors
    bibliography.py   which works a paper lists
"""
