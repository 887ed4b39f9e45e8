"""Steps and trajectories of diffusers' schedulers for many configurations, on a network in closed form.

python3 schedulers.py DIFFUSERS/src/diffusers > ../schedulers/trajectories.json
"""
import importlib, inspect, json, sys
import torch
from bare import install

install(sys.argv[1])
STEPS = 8
MODULES = {
    "PNDMScheduler": "pndm", "DDIMScheduler": "ddim", "EulerDiscreteScheduler": "euler_discrete", "HeunDiscreteScheduler": "heun_discrete", "KDPM2DiscreteScheduler": "k_dpm_2_discrete",
    "DPMSolverMultistepScheduler": "dpmsolver_multistep", "DPMSolverSinglestepScheduler": "dpmsolver_singlestep", "DEISMultistepScheduler": "deis_multistep", "UniPCMultistepScheduler": "unipc_multistep",
}
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
# What the pipelines of Stable Diffusion carry, field by field.
STOCK = {
    "sd15-pndm": {"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", **SD, "clip_sample": False, "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None},
    "sd2-ddim-v": {"_class_name": "DDIMScheduler", "_diffusers_version": "0.8.0", **SD, "clip_sample": False, "num_train_timesteps": 1000, "prediction_type": "v_prediction", "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "trained_betas": None},
    "sdxl-euler": {"_class_name": "EulerDiscreteScheduler", "_diffusers_version": "0.19.0.dev0", **SD, "clip_sample": False, "interpolation_type": "linear", "num_train_timesteps": 1000, "prediction_type": "epsilon", "sample_max_value": 1.0,
                   "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1, "timestep_spacing": "leading", "trained_betas": None, "use_karras_sigmas": False},
    "dpm-solver": {"_class_name": "DPMSolverMultistepScheduler", "_diffusers_version": "0.20.0", **SD, "algorithm_type": "dpmsolver++", "clip_sample": False, "clip_sample_range": 1.0, "dynamic_thresholding_ratio": 0.995, "euler_at_final": False,
                   "final_sigmas_type": "zero", "lambda_min_clipped": -float("inf"), "lower_order_final": True, "num_train_timesteps": 1000, "prediction_type": "epsilon", "rescale_betas_zero_snr": False, "sample_max_value": 1.0,
                   "set_alpha_to_one": False, "skip_prk_steps": True, "solver_order": 2, "solver_type": "midpoint", "steps_offset": 1, "thresholding": False, "timestep_spacing": "linspace", "trained_betas": None, "use_karras_sigmas": False, "variance_type": None},
}
MORE = {
    "ddim-defaults": {"_class_name": "DDIMScheduler", "clip_sample": False},
    "ddim-zero-snr": {"_class_name": "DDIMScheduler", **SD, "clip_sample": False, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
    "euler-defaults": {"_class_name": "EulerDiscreteScheduler"},
    "euler-karras-leading": {"_class_name": "EulerDiscreteScheduler", **SD, "use_karras_sigmas": True, "timestep_spacing": "leading", "steps_offset": 1},
    "euler-karras-trailing": {"_class_name": "EulerDiscreteScheduler", **SD, "use_karras_sigmas": True, "timestep_spacing": "trailing"},
    "euler-karras-limits": {"_class_name": "EulerDiscreteScheduler", **SD, "use_karras_sigmas": True, "sigma_min": 0.05, "sigma_max": 10.0},
    "euler-log-linear": {"_class_name": "EulerDiscreteScheduler", **SD, "interpolation_type": "log_linear"},
    "euler-log-linear-karras": {"_class_name": "EulerDiscreteScheduler", **SD, "interpolation_type": "log_linear", "use_karras_sigmas": True},
    "euler-continuous": {"_class_name": "EulerDiscreteScheduler", **SD, "prediction_type": "v_prediction", "timestep_type": "continuous", "use_karras_sigmas": True, "sigma_min": 0.002, "sigma_max": 120.0},
    "euler-sigma-min": {"_class_name": "EulerDiscreteScheduler", **SD, "final_sigmas_type": "sigma_min", "timestep_spacing": "trailing"},
    "heun-defaults": {"_class_name": "HeunDiscreteScheduler"},
    "heun-karras-leading": {"_class_name": "HeunDiscreteScheduler", **SD, "use_karras_sigmas": True, "timestep_spacing": "leading", "steps_offset": 1},
    "kdpm2-karras": {"_class_name": "KDPM2DiscreteScheduler", **SD, "use_karras_sigmas": True},
    "dpm-euler-at-final": {"_class_name": "DPMSolverMultistepScheduler", **SD, "euler_at_final": True, "lower_order_final": False, "final_sigmas_type": "sigma_min", "solver_order": 3},
    "dpm-clipped-linspace": {"_class_name": "DPMSolverMultistepScheduler", "beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -5.1},
    "dpm-clipped-leading": {"_class_name": "DPMSolverMultistepScheduler", "beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -5.1, "timestep_spacing": "leading", "steps_offset": 1},
    "dpm-clipped-trailing": {"_class_name": "DPMSolverMultistepScheduler", "beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -3.0, "timestep_spacing": "trailing"},
    "dpm-karras": {"_class_name": "DPMSolverMultistepScheduler", **SD, "use_karras_sigmas": True, "timestep_spacing": "leading"},
    "singlestep-defaults": {"_class_name": "DPMSolverSinglestepScheduler", **SD},
    "singlestep-sigma-min": {"_class_name": "DPMSolverSinglestepScheduler", **SD, "final_sigmas_type": "sigma_min"},
    "singlestep-clipped": {"_class_name": "DPMSolverSinglestepScheduler", "beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -5.1},
    "deis-defaults": {"_class_name": "DEISMultistepScheduler"},
    "unipc-defaults": {"_class_name": "UniPCMultistepScheduler"},
    "unipc-eps": {"_class_name": "UniPCMultistepScheduler", **SD, "predict_x0": False, "final_sigmas_type": "sigma_min"},
    "unipc-uncorrected": {"_class_name": "UniPCMultistepScheduler", **SD, "disable_corrector": [0, 2], "solver_order": 3},
    "unipc-karras-limits": {"_class_name": "UniPCMultistepScheduler", **SD, "use_karras_sigmas": True, "sigma_min": 0.1, "sigma_max": 8.0},
}


def network(x, t):
    return 0.9 * torch.tanh(x) * (0.2 + 0.8 * t / 1000) + 0.05 * torch.sin(3 * x)


def run(name, config, steps):
    known = importlib.import_module("diffusers.schedulers.scheduling_" + MODULES[config["_class_name"]])
    kind = getattr(known, config["_class_name"])
    takes = inspect.signature(kind.__init__).parameters
    scheduler = kind(**{k: v for k, v in config.items() if k in takes})
    scheduler.set_timesteps(steps)
    x = torch.tensor([-1.3, 0.4, 2.0], dtype=torch.float64).reshape(1, 3, 1, 1) * float(scheduler.init_noise_sigma)
    trajectory, times = [x.flatten().tolist()], []
    for t in scheduler.timesteps:
        shown = scheduler.scale_model_input(x, t)
        x = scheduler.step(network(shown.double(), float(t)), t, x).prev_sample.double()
        times.append(float(t))
        trajectory.append(x.flatten().tolist())
    return {"name": name, "steps": steps, "config": json.dumps(config, sort_keys=True), "times": times, "trajectory": trajectory}


print("[" + ",\n".join(json.dumps(run(n, c, STEPS)) for n, c in {**STOCK, **MORE}.items()) + "]")
