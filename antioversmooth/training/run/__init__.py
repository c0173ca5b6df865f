"""One attempt at a run, from its start to its end.

attempt       number, lock, logs, heartbeat, start and end in the journal
distributed   rank, device and process group
loop          steps, epochs, checkpoints, early end
checkpoint    checkpoint files; written in the background
signals       reasons to stop, and the agreement of all ranks on them
watchdog      ends a process that hangs
system        utilisation of the machine
result        result.json
"""
