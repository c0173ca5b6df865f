"""Stand-ins for SLURM's clients: `python slurm_stand_in.py <client> <options>`, with all state in
$FAKE_SLURM.

jobs/<id>.json      one job each; a test edits them to let time pass
accounting.json     what sacct prints, line by line; without the file there is no accounting
refuses.json        {client: message}: that client fails with the message
limit.json          [number, message]: sbatch fails with the message while so many jobs are live
nodes               what sinfo prints
srun_exit           exit code of srun; 0 without the file
stale               with it, squeue lists only jobs that are asked for by their ids
private             with it, what PrivateData is
calls.log           one line for each call
"""

import json
import os
import pwd
import sys
import time
from pathlib import Path

HOME = Path(os.environ["FAKE_SLURM"])


def jobs():
    return [json.loads(path.read_text()) for path in sorted(HOME.glob("jobs/*.json"))]


def save(job):
    (HOME / "jobs" / f"{job['id']}.json").write_text(json.dumps(job))


FIELDS = {"%i": "id", "%T": "state", "%u": "user", "%r": "reason", "%N": "nodes", "%S": "start"}
FIELDS["%j"] = "name"


def option(options, name):
    return next((o.split("=", 1)[1] for o in options if o.startswith(f"--{name}=")), None)


def sbatch(options):
    if options == ["--version"]:
        print("slurm-wlm 22.05.8")
        return
    limit = HOME / "limit.json"
    if limit.exists():
        number, message = json.loads(limit.read_text())
        if sum(job["state"] in ("PENDING", "RUNNING") for job in jobs()) >= number:
            sys.exit(message)
    script = Path(options[-1]).read_text() if not options[-1].startswith("--") else sys.stdin.read()
    if "--test-only" in options:
        return
    name = next(
        line.split("=", 1)[1]
        for line in script.splitlines()
        if line.startswith("#SBATCH --job-name")
    )
    time.sleep(float(os.environ.get("FAKE_SLURM_SLOW", "0")))
    for number in range(1, 10_000):
        try:
            with (HOME / "jobs" / f"{number}.json").open("x"):
                break
        except FileExistsError:
            continue
    job = {
        "id": str(number),
        "name": name,
        "state": "PENDING",
        "reason": "None",
        "nodes": "",
        "start": "N/A",
        "user": os.environ.get("FAKE_SLURM_USER", pwd.getpwuid(os.getuid()).pw_name),
    }
    save({**job, "script": script, "dependency": option(options, "dependency")})
    print(number)


def squeue(options):
    names, ids = option(options, "name"), option(options, "jobs")
    if option(options, "Format") == "RestartCnt":
        (job,) = (job for job in jobs() if job["id"] == ids)
        print(f"{job.get('restarts', 0):<20}")
        return
    listed = [
        job
        for job in jobs()
        if (names is None or job["name"] in names.split(","))
        and (ids is None or job["id"] in ids.split(","))
    ]
    if ids is None and (HOME / "stale").exists():
        # a site's cache: lists are old, questions about single jobs go to the controller
        return
    if not listed and ids and "," not in ids:
        sys.exit("slurm_load_jobs error: Invalid job id specified")
    for job in listed:
        line = option(options, "format")
        for letter, key in FIELDS.items():
            line = line.replace(letter, job[key])
        print(line)


def sacct(options):
    try:
        lines = json.loads((HOME / "accounting.json").read_text())
    except FileNotFoundError:
        sys.exit("Slurm accounting storage is disabled")
    wanted = option(options, "jobs").split(",")
    print("\n".join(line for line in lines if line.split("|")[0] in wanted))


def scancel(ids):
    me = os.environ.get("FAKE_SLURM_USER", pwd.getpwuid(os.getuid()).pw_name)
    for job in jobs():
        if job["id"] in ids and job["user"] != me:
            denied = f"Kill job error on job id {job['id']}: Access/permission denied"
            sys.exit(f"scancel: error: {denied}")
        if job["id"] in ids:
            save({**job, "state": "CANCELLED"})


def show_jobs(ids):
    shown = [job for job in jobs() if not ids or job["id"] in ids]
    if ids and not shown:
        sys.exit("slurm_load_jobs error: Invalid job id specified")
    for job in shown:
        print(f"JobId={job['id']} JobName={job['name']}")
        print(f"   UserId={job['user']}(1000) GroupId=users(100) MCS_label=N/A")
        print(f"   JobState={job['state']} Reason={job['reason']} Dependency=(null)")
        print("   RunTime=00:00:00 TimeLimit=01:00:00 TimeMin=N/A")
        print(f"   StartTime={job['start']} EndTime=Unknown Deadline=N/A")
        print(f"   ReqNodeList=(null) ExcNodeList=(null)\n   NodeList={job['nodes']}\n")


def scontrol(words):
    if words[:2] == ["show", "job"]:
        show_jobs(words[2:])
    elif words == ["show", "config"]:
        hidden = HOME / "private"
        print(f"PrivateData             = {hidden.read_text() if hidden.exists() else 'none'}")
    elif words[0] == "requeue":
        (job,) = (job for job in jobs() if job["id"] == words[1])
        save({**job, "state": "PENDING", "reason": "BeginTime"})
    else:
        print("node1")


def srun(options):
    exit_code = HOME / "srun_exit"
    sys.exit(int(exit_code.read_text()) if exit_code.exists() else 0)


def sinfo(options):
    nodes = HOME / "nodes"
    print(nodes.read_text() if nodes.exists() else "main*|idle\nmain*|idle")


def main(client, options):
    with (HOME / "calls.log").open("a") as log:
        log.write(" ".join([client, *options]) + "\n")
    refuses = HOME / "refuses.json"
    message = json.loads(refuses.read_text()).get(client) if refuses.exists() else None
    if message:
        sys.exit(message)
    globals()[client](options)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
