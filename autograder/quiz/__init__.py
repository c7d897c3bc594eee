"""`climb quiz`: forecasts of what models will do, in percent, and what they were worth.

    file.py         a quiz file: read and checked
    scoring.py      what forecasts cost, beside those who never look
    answers.py      the file that forecasts are kept in
    forecasters.py  those that `--demo` makes up
    told.py         the words of both the terminal and the page
    terminal.py, page.py, picture.py

Nothing here needs a model or a solution: the outcomes stand in the quiz file.
"""
