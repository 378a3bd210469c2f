"""Training rows in what a training puts out: found before anything of it is stored.

    outputs --pieces--> texts and numbers --marks--> marks in order --rows--> fields of one row together? --> LeakError

What is found, what cannot be, and how seldom chance looks like a leak is in :mod:`edgeloop.leak.chance`.
"""
