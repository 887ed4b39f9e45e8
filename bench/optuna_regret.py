"""Regret of Optuna's samplers: optuna_regret.py SAMPLER FUNCTION SEEDS TRIALS. For SearchRegret.cs; Debian's python3-optuna."""
import math
import sys

import optuna

A = [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
P = [[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991], [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381]]


def branin(x):
    return (x[1] - 5.1 / (4 * math.pi**2) * x[0] ** 2 + 5 / math.pi * x[0] - 6) ** 2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x[0]) + 10


def rosenbrock(x):
    return sum(100 * (x[i + 1] - x[i] ** 2) ** 2 + (1 - x[i]) ** 2 for i in range(len(x) - 1))


def ackley(x):
    n = len(x)
    return 20 - 20 * math.exp(-0.2 * math.sqrt(sum(v * v for v in x) / n)) + math.e - math.exp(sum(math.cos(2 * math.pi * v) for v in x) / n)


def levy(x):
    w = [1 + (v - 1) / 4 for v in x]
    s = math.sin(math.pi * w[0]) ** 2 + (w[-1] - 1) ** 2 * (1 + math.sin(2 * math.pi * w[-1]) ** 2)
    return s + sum((v - 1) ** 2 * (1 + 10 * math.sin(math.pi * v + 1) ** 2) for v in w[:-1])


def hartmann(x):
    return -sum(c * math.exp(-sum(A[i][j] * (x[j] - P[i][j] * 1e-4) ** 2 for j in range(6))) for i, c in enumerate([1, 1.2, 3, 3.2]))


FUNCTIONS = {
    "branin": (branin, [(-5, 10), (0, 15)], 0.39788735772973816),
    "rosenbrock4": (rosenbrock, [(-2, 2)] * 4, 0),
    "ackley5": (ackley, [(-10, 20)] * 5, 0),
    "levy4": (levy, [(-10, 10)] * 4, 0),
    "hartmann6": (hartmann, [(0, 1)] * 6, -3.32236801141551),
}
SAMPLERS = {
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True, warn_independent_sampling=False),
}

sampler, function, seeds, trials = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
at, box, least = FUNCTIONS[function]
optuna.logging.set_verbosity(optuna.logging.ERROR)
for seed in range(1, seeds + 1):
    study = optuna.create_study(sampler=SAMPLERS[sampler](seed))
    study.optimize(lambda t: at([t.suggest_float(f"x{i}", low, high) for i, (low, high) in enumerate(box)]), n_trials=trials)
    print(study.best_value - least)
