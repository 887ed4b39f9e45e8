"""Traces of early stopping: halving.py FOLDER. Median and stopping by Optuna 3.1 (Debian's python3-optuna); promotion by algorithm 2 of
Li et al. 2020, written down here line by line. All on one clock: a step takes one tick, W trials run at a time, the trial with the lower
index is first among equals. Each file has the losses of every trial at every step, and what was decided in which order."""
import heapq
import json
import random
import sys

import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)


def losses(seed, trials, steps):
    rng = random.Random(seed)
    out = []
    for _ in range(trials):
        end, speed = rng.random(), 0.2 + rng.random()
        out.append([round(end + 2 / (1 + speed * s) + 0.05 * rng.gauss(0, 1), 4) for s in range(1, steps + 1)])
    return out


def by_pruner(table, steps, looks, workers, pruner):
    study = optuna.create_study(pruner=pruner, sampler=optuna.samplers.RandomSampler(seed=0))
    trials, heap, trace, started, now = {}, [], [], 0, 0

    def after(step):
        return next(look for look in looks if look > step)

    while True:
        while len(heap) < workers and started < len(table):
            trials[started] = study.ask()
            trace.append(["begin", started, after(0)])
            heapq.heappush(heap, (now + after(0), started, after(0)))
            started += 1
        if not heap:
            return trace
        now, trial, step = heapq.heappop(heap)
        value = table[trial][step - 1]
        trials[trial].report(value, step)
        if step == steps:
            study.tell(trials[trial], value)
        elif trials[trial].should_prune():
            study.tell(trials[trial], state=optuna.trial.TrialState.PRUNED)
            trace.append(["stop", trial, step])
        else:
            heapq.heappush(heap, (now + after(step) - step, trial, after(step)))


def by_promotion(table, steps, looks, workers, eta):
    rungs, promoted, heap, trace, started, now = {k: [] for k in range(len(looks))}, {k: set() for k in range(len(looks))}, [], [], 0, 0
    while True:
        while len(heap) < workers:
            job = None
            for k in reversed(range(len(looks) - 1)):
                candidates = sorted(rungs[k])[: len(rungs[k]) // eta]
                promotable = [t for _, t in candidates if t not in promoted[k]]
                if promotable:
                    job = (promotable[0], k + 1)
                    promoted[k].add(promotable[0])
                    break
            if job is None:
                if started == len(table):
                    break
                job = (started, 0)
                started += 1
            trial, k = job
            trace.append(["goOn" if k else "begin", trial, looks[k]])
            heapq.heappush(heap, (now + looks[k] - (looks[k - 1] if k else 0), trial, k))
        if not heap:
            break
        now, trial, k = heapq.heappop(heap)
        rungs[k].append((table[trial][looks[k] - 1], trial))
    resting = sorted({t for k in range(len(looks) - 1) for _, t in rungs[k] if t not in promoted[k]})
    return trace + [["stop", t, max(looks[k] for k in range(len(looks)) if t in {u for _, u in rungs[k]})] for t in resting]


def write(name, spec, table, trace):
    with open(f"{sys.argv[1]}/{name}.json", "w") as file:
        json.dump({**spec, "losses": table, "trace": trace}, file, separators=(",", ":"))
        file.write("\n")


for seed, (trials, steps, first, eta, workers) in enumerate([(60, 27, 1, 3, 4), (40, 16, 2, 2, 7), (30, 50, 4, 4, 1)], 1):
    looks = [first * eta**k for k in range(20) if first * eta**k < steps] + [steps]
    spec = {"steps": steps, "minSteps": first, "reductionFactor": eta, "concurrent": workers}
    table = losses(seed, trials, steps)
    write(f"promotion{seed}", spec, table, by_promotion(table, steps, looks, workers, eta))
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=eta)
    write(f"stopping{seed}", spec, table, by_pruner(table, steps, looks, workers, pruner))
    every = sorted({*range(first, steps, first), steps})
    write(f"median{seed}", spec, table, by_pruner(table, steps, every, workers, optuna.pruners.MedianPruner(n_startup_trials=5)))
