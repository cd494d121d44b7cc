"""Training on a GPU: ours and its peers on the same shards, in one command.

    python -m bench.gpu                      on a GPU: 0.5B parameters at 8K, 32K and 128K, nine minutes
    python -m bench.gpu --size toy           anywhere: two layers, seconds

    plan.py       sizes, lengths, and everything that contestants must have in common
    data.py       the mixture, the first weights, what each step costs: made once, before anybody runs
    contest.py    contestants as commands; a run's steps timed by the lines it prints
    peer.py       the Hugging Face Trainer, in a process of its own
    verdicts.py   do the losses agree, is a resumed run the same
    show.py       the table, the curves

A step's time is the time between two lines of a process, for ours as for the others: data, forward, backward, optimizer
and everything between. All start from the same files of weights, and see the same sequences in each step.
"""
