"""
Every order of the calls of a few programs on one store, tried on the real code.

::

    cd tests
    python -m explore prune pull
    python -m explore prune pull --scene rest --preemptions 3
    python -m explore --help

- An *actor* is a function: a call of the library, or what another program does to the store. It
  runs in a greenlet. Each of its calls of `os` on the store is a *step* (`explore.seam`), before
  which another actor may have its turn, or this one may be killed (`explore.schedule`).
- A *schedule* says at which steps the turn goes to another. It is played from a fresh store in
  memory. All schedules are tried that take the turn from an actor at most so many times (the
  *preemptions*), the fewest first (`explore.search`). A turn that goes on because an actor sleeps
  or ends is no preemption.
- Only steps on something that another actor changes are places to switch (`explore.conflicts`).
  What is on disk, what each actor has seen and whose turn it is make a *state*; from a state that
  is known nothing is tried again.
- Times are virtual. They pass only while an actor sleeps, so nothing depends on the machine.
- What must hold in the end is in `explore.checks`, the stores are in `explore.scenes`, the actors
  in `explore.actors`, and who meets whom in which tier in `explore.combinations`.
"""
