"""The back ends of this machine.

pool runs processes side by side on its devices: worker is the processes of one attempt, process
the record by which another terminal ends them. inline trains in this process, for a debugger.
"""
