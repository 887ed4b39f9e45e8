"""Hypervolume that Optuna's NSGA-II reaches: optuna_front.py SEEDS TRIALS POPULATION. ZDT1 and ZDT3 of six parameters, reference point (1.1, 6); Debian's python3-optuna."""
import math
import sys

import optuna


def zdt1(x):
    g = 1 + 9 * sum(x[1:]) / (len(x) - 1)
    return x[0], g * (1 - math.sqrt(x[0] / g))


def zdt3(x):
    g = 1 + 9 * sum(x[1:]) / (len(x) - 1)
    return x[0], g * (1 - math.sqrt(x[0] / g) - x[0] / g * math.sin(10 * math.pi * x[0]))


def volume(points, reference):
    area, top = 0.0, reference[1]
    for a, b in sorted(p for p in points if p[0] < reference[0]):
        if b < top:
            area += (reference[0] - a) * (top - b)
            top = b
    return area


seeds, trials, population = (int(a) for a in sys.argv[1:4])
optuna.logging.set_verbosity(optuna.logging.ERROR)
for name, at in (("zdt1", zdt1), ("zdt3", zdt3)):
    found = []
    for seed in range(1, seeds + 1):
        study = optuna.create_study(sampler=optuna.samplers.NSGAIISampler(seed=seed, population_size=population), directions=["minimize"] * 2)
        study.optimize(lambda t: at([t.suggest_float(f"x{i}", 0, 1) for i in range(6)]), n_trials=trials)
        found.append(volume([t.values for t in study.trials], (1.1, 6)))
    found.sort()
    print(name, *(f"{found[len(found) * q // 4]:.4g}" for q in (1, 2, 3)))
