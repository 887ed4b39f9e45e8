using System.Text;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Client.Tests.Specs;

public sealed class SpecErrorTests : IDisposable
{
    private readonly SpecFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("adjointdpm.dev/v1", "v2", "e.yaml:1:13: apiVersion must be adjointdpm.dev/v1, but is 'v2'.")]
    [InlineData("kind: Experiment", "kind: Job", "e.yaml:2:7: kind must be Experiment, but is 'Job'.")]
    [InlineData("kind: Experiment", "kind: Experiment\nkind: Experiment", "e.yaml:3:1: The key 'kind' is here twice, first on line 2. Remove one.")]
    [InlineData("name: stylize", "name: My Style!", "e.yaml:4:9: metadata.name must be 1 to 63 lower-case letters, digits and dashes, and begin and end with a letter or digit, but is 'My Style!'. Did you mean 'my-style'?")]
    [InlineData("  name: stylize\n", "", "e.yaml:4:3: metadata.name is missing. It must be text.")]
    [InlineData("spec:", "spce:", "e.yaml:6:1: spce is not a known key. Did you mean 'spec'?")]
    [InlineData("path: unet", "path: unit", "e.yaml:8:11: model.path: no such folder or file 'unit'. Did you mean 'unet'?")]
    [InlineData("path: unet", "path: nowhere/at/all", "e.yaml:8:11: model.path: no such folder or file 'nowhere/at/all'. Paths are relative to the spec file, here 'FOLDER'.")]
    [InlineData("reference: style.png", "reference: judge", "e.yaml:12:16: losses[0].reference: no such file 'judge'. It is a folder.")]
    [InlineData("gram-style", "gramStyle", "e.yaml:10:11: losses[0].name must be one of gram-style, cross-entropy, pixel-distance, log-probability, margin, content, perceptual, gaussian-divergence, total-variation, noise-norm, clip-similarity, clip-gram, aesthetic, torchscript, onnx, sidecar, custom, but is 'gramStyle'. Did you mean 'gram-style'?")]
    [InlineData("    classifier: judge\n", "", "e.yaml:10:5: losses[0] is gram-style, which needs 'classifier': the folder of the classifier it looks through.")]
    [InlineData("weight: 0.1}", "layers: [a]}", "e.yaml:14:28: losses[1].layers is not used by pixel-distance. Remove it.")]
    [InlineData("classifier: other", "classifier: judge", "e.yaml:16:17: heldOut.classifier is also the classifier of losses[0]. A judge that took part in the training proves nothing: name another one.")]
    [InlineData("  heldOut:\n    classifier: other\n", "", "e.yaml:18:23: objective.metric is 'heldOut.accuracy.after', but the spec has no heldOut. Add it, or rank by 'loss'.")]
    [InlineData("name: adamw", "name: adam-w", "e.yaml:18:11: optimizer.name must be one of adamw, sgd, but is 'adam-w'. Did you mean 'adamw'?")]
    [InlineData("name: adamw", "name: lion", "e.yaml:18:11: optimizer.name must be one of adamw, sgd, but is 'lion'.")]
    [InlineData("learningRate: 1e-4", "learning_rate: 1e-4", "e.yaml:19:5: optimizer.learning_rate is not a known key. Did you mean 'learningRate'?")]
    [InlineData("learningRate: 1e-4", "learningRate: -1", "e.yaml:19:19: optimizer.learningRate must be a number from 1e-12 to 1000, but is -1.")]
    [InlineData("learningRate: 1e-4", "learningRate: .nan", "e.yaml:19:19: optimizer.learningRate must be a number from 1e-12 to 1000, but is '.nan'.")]
    [InlineData("learningRate: 1e-4", "learningRate: \"1e-4\"", "e.yaml:19:19: optimizer.learningRate must be a number from 1e-12 to 1000, but is the text \"1e-4\". Remove the quotes.")]
    [InlineData("learningRate: 1e-4", "learningRate:", "e.yaml:19:18: optimizer.learningRate must be a number from 1e-12 to 1000, but is empty.")]
    [InlineData("learningRate: 1e-4", "learningRate: [1]", "e.yaml:19:19: optimizer.learningRate must be a number from 1e-12 to 1000, but is a list.")]
    [InlineData("maxTrials: 4", "maxTrials: 0", "e.yaml:24:14: maxTrials must be a whole number from 1 to 100000, but is 0.")]
    [InlineData("maxTrials: 4", "maxTrials: 4.5", "e.yaml:24:14: maxTrials must be a whole number from 1 to 100000, but is 4.5.")]
    [InlineData("maxTrials: 4", "maxTrials: 99999999999999999999", "e.yaml:24:14: maxTrials must be a whole number from 1 to 100000, but is 99999999999999999999.")]
    [InlineData("maxTrials: 4", "maxTrials: 40", "e.yaml:24:14: note: maxTrials is 40, but the grid has 4 points, so there will be 4 trials.")]
    [InlineData("maxTrials: 4", "training: {learningRate: 3}", "e.yaml:24:14: training.learningRate is not a known key. Did you mean 'optimizer.learningRate'?")]
    [InlineData("maxTrials: 4", "train: {include: conv}", "e.yaml:24:20: train.include must be a list (text in each item), but is 'conv'. Write [conv].")]
    [InlineData("maxTrials: 4", "sample: {classes: [1, -1, 1]}", "e.yaml:24:25: sample.classes[1] must be a class, counted from 0, but is -1.\ne.yaml:24:29: sample.classes[2] repeats the class 1. Remove it.")]
    [InlineData("maxTrials: 4", "sample: {prompts: [a, b], classes: [1, 1, 1]}", "e.yaml:24:38: sample.classes holds 3 classes for 2 prompts. Give each prompt the class that a classifier should see, or none.")]
    [InlineData("maxTrials: 4", "sample: {height: 64}", "e.yaml:24:12: sample.height is for models that read text, but sample.prompts is not set. Set it, or remove height.")]
    [InlineData("maxTrials: 4", "algorithm: {name: random}", "e.yaml:24:21: A random search needs 'maxTrials': it would never end.")]
    [InlineData("maxTrials: 4", "earlyStopping: {name: ahsa}", "e.yaml:24:25: earlyStopping.name must be one of asha, hyperband, median, but is 'ahsa'. Did you mean 'asha'?")]
    [InlineData("maxTrials: 4", "earlyStopping: {name: asha, minSteps: 20}", "e.yaml:24:41: earlyStopping.minSteps is 20, but a trial has 20 steps, so none could stop early. Set it lower, or raise training.steps.")]
    [InlineData("maxTrials: 4", "earlyStopping: {name: median, mode: stopping}", "e.yaml:24:33: earlyStopping.mode is for asha, but the name is median. Remove it.")]
    [InlineData("maxTrials: 4", "algorithm: {population: 8}", "e.yaml:24:15: algorithm.population is 8, but grid has no generations. Remove it, or set algorithm.name to nsga-ii or pbt.")]
    [InlineData("maxTrials: 4", "objectives: [{metric: loss}, {metric: gradientNorm}]", "e.yaml:24:3: The spec has both 'objective' and 'objectives'. Keep one of them.")]
    [InlineData("name: pixel-distance", "name: sidecar, addresses: [\"http://a:1\"], secretRef: sesame", "e.yaml:14:59: losses[1].secretRef must name a variable of the silos' environment as env:ADPM_SECRET_NAME, and never be the secret itself.")]
    [InlineData("name: pixel-distance", "name: pixel-distance, secretRef: \"env:ADPM_SECRET_A\"", "e.yaml:14:28: losses[1].secretRef is not used by pixel-distance. Remove it.")]
    [InlineData("labels: {team: art}", "labels: {\"a=b\": c}", "e.yaml:5:19: A label's name has no '=' and, as its value, at most 100 characters.")]
    [InlineData("maxTrials: 4", "train: {include: [hf_abcdefghijklmnopqrstuvwxyz0123456789]}", "e.yaml:24:21: train.include[0] holds what looks like an access token. Specs are kept and shown: give secrets to the silos by their environment or secret store, and name none here.")]
    [InlineData("maxTrials: 4", "train: {include: [\"redis://me:hunter2@host\"]}", "e.yaml:24:21: train.include[0] holds an address with a password. Specs are kept and shown: give secrets to the silos by their environment or secret store, and name none here.")]
    [InlineData("maxTrials: 4", "budget: {days: 3}", "e.yaml:24:12: budget.days is not a known key. Known keys here: hours, evaluations, failures.")]
    [InlineData("maxTrials: 4", "budget: {hours: 0}", "e.yaml:24:19: budget.hours must be a number from 0.0001 to 100000, but is 0.")]
    [InlineData("maxTrials: 4", "maxTrials: !!int 4", "e.yaml:24:14: The tag 'tag:yaml.org,2002:int' is not needed. Write the value alone.")]
    [InlineData("maxTrials: 4", "maxTrials: *x", "e.yaml:24:14: The alias '*x' has no anchor '&x' before it.")]
    [InlineData("maxTrials: 4", "maxTrials: 4\n---\na: 1", "e.yaml:25:1: A file holds one experiment, but a second document begins here. Put it in a file of its own.")]
    [InlineData("maxTrials: 4", "sample: {solver: heun, rtol: 1e-4}", "e.yaml:24:26: sample.rtol is not used by a sampler with fixed steps, heun. Remove it, or choose bosh3, dopri5, tsit5 or dopri8.")]
    [InlineData("maxTrials: 4", "sample: {solver: ddpm, eta: 0.5}", "e.yaml:24:26: sample.eta is not used by sample.solver ddpm. Remove it, or choose ddim.")]
    [InlineData("maxTrials: 4", "gradient: {method: discrete, slots: 3}", "e.yaml:24:32: gradient.slots is not used by gradient.method discrete. Remove it, or choose checkpointed.")]
    [InlineData("maxTrials: 4", "gradient: {method: checkpointed}", "e.yaml:24:22: gradient.method is checkpointed, which needs gradient.slots.")]
    [InlineData("maxTrials: 4", "gradient: {method: truncated}", "e.yaml:24:22: gradient.method is truncated, which needs gradient.last.")]
    [InlineData("maxTrials: 4", "gradient: {method: reversible}", "e.yaml:24:22: gradient.method reversible undoes the sampler's steps, which ddim cannot. Choose reversible-midpoint, reversible-heun or reversible-rk4 for sample.solver, or discrete for gradient.method.")]
    [InlineData("maxTrials: 4", "gradient: {method: continuous}\n  sample: {solver: dpm++2m}", "e.yaml:24:22: gradient.method continuous has no way back of its own for dpm++2m. Choose discrete, or a sampler such as ddim, heun or rk4.")]
    [InlineData("maxTrials: 4", "gradient: {method: continuous}\n  sample: {eta: 1}", "e.yaml:24:22: gradient.method continuous is of the probability flow, but ddim draws noise. Choose discrete, which is exact for it, or adjoint-deis.")]
    [InlineData("maxTrials: 4", "gradient: {method: adjoint-deis}\n  sample: {grid: trailing}", "e.yaml:24:22: gradient.method adjoint-deis evaluates the network at the end of each step, where grid trailing has no noise left. Choose logsnr, time or karras for sample.grid, or discrete for gradient.method.")]
    [InlineData("maxTrials: 4", "gradient: {method: adjoint-deis}\n  sample: {solver: edm}", "e.yaml:24:22: gradient.method adjoint-deis is not for edm. Choose discrete.")]
    [InlineData("maxTrials: 4", "gradient: {check: {mode: always}}", "e.yaml:24:28: gradient.check.mode must be one of on, off, only, but is 'always'.")]
    [InlineData("maxTrials: 4", "gradient: {check: {samples: 0}}", "e.yaml:24:31: gradient.check.samples must be a whole number from 1 to 1024, but is 0.")]
    [InlineData("weight: 0.1}", "label: 3}", "e.yaml:14:28: losses[1].label is not used by pixel-distance. Remove it.")]
    [InlineData("{name: pixel-distance, weight: 0.1}", "{name: pixle-distance}", "e.yaml:14:12: losses[1].name must be one of gram-style, cross-entropy, pixel-distance, log-probability, margin, content, perceptual, gaussian-divergence, total-variation, noise-norm, clip-similarity, clip-gram, aesthetic, torchscript, onnx, sidecar, custom, but is 'pixle-distance'. Did you mean 'pixel-distance'?")]
    [InlineData("{name: pixel-distance, weight: 0.1}", "{name: torchscript}", "e.yaml:14:5: losses[1] is torchscript, which needs 'file': the reward, saved by torch.jit.script(module).save(…).")]
    [InlineData("{name: pixel-distance, weight: 0.1}", "{name: onnx, file: stile.png}", "e.yaml:14:24: losses[1].file: no such file 'stile.png'. Did you mean 'style.png'?")]
    [InlineData("{name: pixel-distance, weight: 0.1}", "{name: log-probability, classifier: judge, gaol: targeted}", "e.yaml:14:48: losses[1].gaol is not a known key. Did you mean 'goal'?")]
    [InlineData("{name: pixel-distance, weight: 0.1}", "{name: gaussian-divergence}", "e.yaml:14:5: losses[1] is gaussian-divergence, which needs 'deviation': the standard deviation of both Gaussians, in units of the samples.")]
    [InlineData("{name: pixel-distance, weight: 0.1}", "{name: noise-norm}", "e.yaml:14:12: losses[1] is noise-norm, a loss of x_T, but train.target is weights, which leaves x_T as it was drawn. Set train.target to noise, or remove the loss.")]
    [InlineData("{name: pixel-distance, weight: 0.1}", "{name: sidecar, addresses: [\"127.0.0.1:8900\"]}", "e.yaml:14:32: losses[1].addresses holds '127.0.0.1:8900', which is no address. Write one such as http://127.0.0.1:8900.")]
    [InlineData("{name: pixel-distance, weight: 0.1}", "{name: clip-similarity, clip: judge, clipText: judge}", "e.yaml:14:5: losses[1] is clip-similarity of a model without prompts, which needs 'text': what CLIP should see.")]
    [InlineData("{name: pixel-distance, weight: 0.1}", "{name: custom}", "e.yaml:14:5: losses[1] is custom, which needs 'loss': the name that the silos' host registered it under.")]
    [InlineData("{name: pixel-distance, weight: 0.1}", "{name: custom, loss: ink, options: {share: 1}, text: a}", "e.yaml:14:52: losses[1].text is not used by custom. Remove it.")]
    [InlineData("{name: pixel-distance, weight: 0.1}", "{name: pixel-distance, resize: 32}", "e.yaml:14:28: losses[1].resize is not used by pixel-distance. Remove it.")]
    [InlineData("classifier: other", "classifier: other\n    losses: [{name: content}]", "e.yaml:17:14: heldOut.losses[0] is content, which needs 'classifier': the folder of the classifier it looks through.")]
    [InlineData("classifier: other", "classifier: other\n    every: 2\n    metric: diversty", "e.yaml:18:13: heldOut.metric is 'diversty', which is not measured here. Choose one of loss, gramStyle, pixelDistance, accuracy.")]
    [InlineData("classifier: other", "classifier: other\n    every: 2\n    metric: diversity", "e.yaml:18:13: heldOut.metric is 'diversity', which is not measured here. Choose one of loss, gramStyle, pixelDistance, accuracy, or set heldOut.diversity: true.")]
    [InlineData("classifier: other", "classifier: other\n    metric: accuracy", "e.yaml:17:5: heldOut.metric is not used by evaluations before and after alone. Remove it, or set heldOut.every.")]
    [InlineData("classifier: other", "classifier: other\n    samples: 5\n    diversity: true", "e.yaml:18:16: heldOut.diversity compares samples that are drawn together, training.samplesPerShard = 4 of them, but of heldOut.samples = 5 one would be alone. Change either.")]
    [InlineData("maxTrials: 4", "train: {target: nois}", "e.yaml:24:19: train.target must be one of weights, lora, noise, condition, none, but is 'nois'. Did you mean 'noise'?")]
    [InlineData("maxTrials: 4", "train: {noise: {keepNorm: true}}", "e.yaml:24:11: train.noise is not used by train.target weights. Remove it, or choose noise.")]
    [InlineData("maxTrials: 4", "train: {positions: [1]}", "e.yaml:24:11: train.positions is not used by train.target weights. Remove it, or choose condition.")]
    [InlineData("maxTrials: 4", "train: {target: condition, positions: [1, 1]}", "e.yaml:24:45: train.positions[1] repeats the position 1. Remove it.")]
    [InlineData("maxTrials: 4", "train: {target: noise, noise: {step: sign}}", "e.yaml:24:34: train.noise.step is not used by optimizer.name adamw, which scales every value itself. Remove it, or choose sgd.")]
    [InlineData("maxTrials: 4", "train: {target: noise, noise: {keepNorm: true, box: {norm: l2, radius: 1}}}", "e.yaml:24:34: train.noise.keepNorm and train.noise.box both say where x_T may go, and one undoes the other. Keep one of them.")]
    [InlineData("maxTrials: 4", "train: {target: noise, noise: {box: {norm: linf}}}", "e.yaml:24:39: train.noise.box.radius is missing. It must be a number from 1e-09 to 1000000000.")]
    [InlineData("maxTrials: 4", "train: {target: noise, noise: {box: {norm: linf, radius: 0.1, restarts: 3}}}", "e.yaml:24:75: train.noise.box.restarts is 3, which does not divide training.samplesPerShard = 4: the starts of a noise belong into one shard.")]
    [InlineData("maxTrials: 4", "train: {target: noise}\n  gradient: {method: refl}", "e.yaml:25:22: gradient.method refl leaves out the first steps, and with them the gradient of x_T, but train.target is noise. Choose discrete.")]
    [InlineData("maxTrials: 4", "train: {target: none}", "e.yaml:24:19: train.target is none, which draws samples with sample.lookAhead, but that is not set. Set it, or choose what is trained.")]
    [InlineData("maxTrials: 4", "sample: {lookAhead: {strength: 1}}", "e.yaml:24:12: sample.lookAhead is not used by train.target weights. Remove it, or choose none.")]
    [InlineData("maxTrials: 4", "gradient: {method: adjoint-matching}", "e.yaml:24:22: gradient.method adjoint-matching needs a memoryless sampler, which ddim is not. Choose ddpm, sde-dpm++1 or euler-maruyama for sample.solver.")]
    [InlineData("maxTrials: 4", "gradient: {method: discrete, last: 3}", "e.yaml:24:32: gradient.last is not used by gradient.method discrete. Remove it, or choose truncated, alignprop, refl or adjoint-matching.")]
    [InlineData("maxTrials: 4", "gradient: {method: refl, rewardScale: 3}", "e.yaml:24:28: gradient.rewardScale is not used by gradient.method refl. Remove it, or choose adjoint-matching.")]
    [InlineData("    classifier: other\n", "    classifier: other\n    patience: 2\n", "e.yaml:17:5: heldOut.patience counts the evaluations of heldOut.every, which is not set. Set it.")]
    [InlineData("    name: adamw", "\tname: adamw", "e.yaml:18:1: A line is indented with a tab. YAML wants spaces.")]
    [InlineData("metadata:", "metadata: {", "e.yaml:5:9: This is not valid YAML: While parsing a flow mapping, did not find expected ',' or '}'.")]
    public void Parse_OneMistake_IsNamedWithItsPlace(string right, string wrong, string expected)
    {
        Assert.Contains(right, SpecFolder.Valid);
        Assert.Equal(expected, _folder.Problems(SpecFolder.Valid.Replace(right, wrong)));
    }

    [Theory]
    [InlineData("optimizer.learningrate: {values: [1]}", "5: 'optimizer.learningrate' is no place in the spec. Did you mean 'optimizer.learningRate'?")]
    [InlineData("learningRate: {values: [1]}", "5: 'learningRate' is no place in the spec. Did you mean 'optimizer.learningRate'?")]
    [InlineData("maxTrials: {values: [1]}", "5: 'maxTrials' cannot be searched: it steers the search or judges its trials.")]
    [InlineData("optimizer: {values: [1]}", "5: 'optimizer' is not a single value. Name one of its parts: name, learningRate, beta1, beta2, epsilon, weightDecay, maxNorm.")]
    [InlineData("losses[4].weight: {values: [1]}", "5: 'losses[4].weight' speaks of item 4 of losses, but there are 2, counted from 0.")]
    [InlineData("optimizer.learningRate: {values: [1e-4, 0.0001]}", "45: parameters[\"optimizer.learningRate\"].values[1] repeats the value '0.0001'. Remove it.")]
    [InlineData("optimizer.learningRate: {values: [1e-4, 3e4]}", "45: A value of 'optimizer.learningRate' must be a number from 1e-12 to 1000, but is 3e4.")]
    [InlineData("optimizer.learningRate: {values: []}", "38: parameters[\"optimizer.learningRate\"].values must have at least one item, but is an empty list.")]
    [InlineData("optimizer.learningRate: {values: [1e-4], when: {sample.solver: ddim}}", "53: parameters[\"optimizer.learningRate\"].when names 'sample.solver', which is no searched parameter with 'values' above this one. List its values before, or remove the condition.")]
    [InlineData("optimizer.learningRate: {}", "5: parameters[\"optimizer.learningRate\"] needs either 'values' or both 'min' and 'max'.")]
    [InlineData("optimizer.learningRate: {min: 1e-5, max: 1e-3}", "5: parameters[\"optimizer.learningRate\"] is an interval, but a grid needs 'values'. List them, or set algorithm.name to random, sobol, tpe, gp, cma-es, nsga-ii or pbt.")]
    [InlineData("sample.solver: {values: [ddim, huen]}", "36: A value of 'sample.solver' must be one of ddim, heun, midpoint, rk4, rk4-38, flow-euler, flow-heun, flow-midpoint, dpm2, ab2, ab3, ab4, plms, dpm++2m, dpm++3m, dpm++3m-exact, dpm++2s, dpm-2m, dpm-2s, deis2, deis3, unipc2, unipc2-bh1, unipc3, ddpm, sde-dpm++1, sde-dpm++2m, euler-maruyama, edm, bosh3, dopri5, tsit5, dopri8, reversible-midpoint, reversible-heun, reversible-rk4, but is 'huen'. Did you mean 'heun'?")]
    [InlineData("train.include: {values: [[a, b], c]}", "38: A value of 'train.include' must be a list (text in each item), written as a JSON array, but is 'c'.")]
    [InlineData("model.path: {values: [unet, unit]}", "33: parameters[\"model.path\"].values[1]: no such folder or file 'unit'. Did you mean 'unet'?")]
    public void Parse_SearchMistake_IsNamedWithItsPlace(string parameter, string expected) =>
        Assert.Equal("e.yaml:22:" + expected, _folder.Problems(SpecFolder.Valid.Replace("optimizer.learningRate: {values: [1e-4, 3e-4]}", parameter)));

    [Theory]
    [InlineData("{min: 1e-3, max: 1e-4}", "46: parameters[\"optimizer.learningRate\"].max must be greater than min = 0.001, but is 0.0001.")]
    [InlineData("{min: 0, max: 1, distribution: log-uniform}", "60: parameters[\"optimizer.learningRate\"].distribution must be one of uniform, logUniform, intUniform, but is 'log-uniform'. Did you mean 'logUniform'?")]
    [InlineData("{min: 1e-13, max: 1}", "35: parameters[\"optimizer.learningRate\"].min is 1e-13, but 'optimizer.learningRate' must be a number from 1e-12 to 1000.")]
    [InlineData("{min: 0.5, max: 2, distribution: intUniform}", "5: parameters[\"optimizer.learningRate\"] is intUniform, so 'min' and 'max' must be whole numbers, but they are 0.5 and 2.")]
    public void Parse_IntervalMistake_IsNamedWithItsPlace(string interval, string expected) =>
        Assert.Equal("e.yaml:22:" + expected, _folder.Problems(Random(interval, "optimizer.learningRate")));

    [Fact]
    public void Parse_LogUniformFromZero_NamesTheReason() => Assert.Equal(
        "e.yaml:22:29: parameters[\"losses[0].weight\"].min must be greater than 0 for logUniform, but is -1.",
        _folder.Problems(Random("{min: -1, max: 1, distribution: logUniform}", "losses[0].weight")));

    [Fact]
    public void Parse_UniformOnWholeNumber_NamesIntUniform() => Assert.Equal(
        "e.yaml:22:5: 'sample.steps' is a whole number. Set distribution to intUniform, or list 'values'.",
        _folder.Problems(Random("{min: 1, max: 9}", "sample.steps")));

    [Fact]
    public void Parse_ManyMistakes_AreAllNamedInTheOrderOfTheFile()
    {
        var yaml = SpecFolder.Valid.Replace("path: unet", "path: unit").Replace("gram-style", "gram").Replace("name: adamw", "name: adma").Replace("maxTrials: 4", "maxTrails: 4");
        Assert.Equal([8, 10, 18, 24], _folder.Parse(yaml).Problems.Select(problem => problem.Line));
    }

    [Theory]
    [InlineData("", "e.yaml:1:1: The file is empty. An experiment begins with 'apiVersion: adjointdpm.dev/v1'.")]
    [InlineData("- 1", "e.yaml:1:1: The document must be a mapping with the keys apiVersion, kind, metadata, spec, but is a list.")]
    [InlineData("a: b: c", "e.yaml:1:5: This is not valid YAML: While scanning a plain scalar value, found invalid mapping.")]
    public void Parse_NoExperimentAtAll_SaysSo(string yaml, string expected) => Assert.Equal(expected, _folder.Problems(yaml));

    [Fact]
    public void Parse_EndlessNesting_IsRefused() => Assert.Equal(
        "e.yaml:1:34: Lists and mappings are nested more than 32 deep. No experiment needs that.", _folder.Problems(new string('[', 100_000)));

    [Fact]
    public void Load_MissingFileFolderAndBinary_AreNamed()
    {
        var binary = Path.Combine(_folder.Folder, "b.yaml");
        File.WriteAllBytes(binary, [0x61, 0x80, 0x81]);
        var large = Path.Combine(_folder.Folder, "l.yaml");
        File.WriteAllText(large, new string('a', 2_000_000));
        Assert.StartsWith("There is no file", Load("missing.yaml"));
        Assert.EndsWith("is a folder. Name the experiment file in it.", Load("unet"));
        Assert.EndsWith("is not UTF-8 text.", Load("b.yaml"));
        Assert.EndsWith("is this the right file?", Load("l.yaml"));

        string Load(string name) => Assert.Single(ExperimentDocument.Load(Path.Combine(_folder.Folder, name)).Problems).Message;
    }

    [Fact]
    public void Parse_RandomMutations_GiveAResultAndNeverThrow()
    {
        var random = new Random(20260722);
        var pieces = new[] { ":", "- ", "  ", "\t", "\n", "{", "}", "[", "]", "\"", "'", "&a ", "*a", "!!x ", "|", ">", "#", "%", "\0", "\\", "1e999", "null", "~", "<<: ", "\u00e9", "\ud800", "---\n", "...\n", "? ", "," };
        for (var i = 0; i < 4000; i++)
        {
            var text = new StringBuilder(SpecFolder.Valid);
            for (var n = random.Next(1, 5); n > 0 && text.Length > 0; n--)
            {
                var at = random.Next(text.Length);
                if (random.Next(3) == 0) text.Remove(at, Math.Min(random.Next(1, 30), text.Length - at));
                else if (random.Next(2) == 0) text.Insert(at, pieces[random.Next(pieces.Length)]);
                else
                {
                    var from = random.Next(text.Length);
                    text.Insert(at, text.ToString(from, Math.Min(random.Next(1, 40), text.Length - from)));
                }
            }

            var result = _folder.Parse(text.ToString());
            Assert.True(result.Document is not null || result.Problems.Count > 0, text.ToString());
            Assert.All(result.Problems, problem => Assert.True(problem is { Line: > 0, Column: > 0, Length: > 0 }));
        }
    }

    private static string Random(string interval, string path) => SpecFolder.Valid
        .Replace("optimizer.learningRate: {values: [1e-4, 3e-4]}", $"{path}: {interval}")
        .Replace("    losses[1].weight: {values: [0.1, 1]}\n", "")
        .Replace("maxTrials: 4", "maxTrials: 4\n  algorithm: {name: random}");
}
