using System.Runtime.InteropServices;
using AdjointDpm.Gradients;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tools;
using AdjointDpm.Models.Classifiers;
using AdjointDpm.Native;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>Samples and differentiates on one device. The only family of files where grains' work meets TorchSharp.</summary>
/// <remarks>Every method is a pure function of its arguments and the files they name: who calls, how often and in which order does not show in the bits.</remarks>
internal sealed class GradientEngine : IGradientEngine
{
    /// <summary>Models kept at once: two trials that alternate on a device do not reload.</summary>
    private const int MostModels = 2;

    private readonly Device _device;
    private readonly string _name;
    private readonly List<(string Key, LoadedModel Model)> _models = [];
    private readonly Dictionary<(string Folder, ScalarType Dtype), (string Stamp, ImageClassifier Classifier)> _classifiers = [];

    public GradientEngine(string name)
    {
        NativeTorch.EnsureLoaded();
        _name = name;
        _device = name.StartsWith("cuda", StringComparison.Ordinal) ? device(name) : CPU;
        if (_device.type == DeviceType.CUDA && !cuda.is_available())
            throw new NotSupportedException($"Device '{name}' was asked for, but libtorch finds no CUDA device. Use a build with CUDA on a host with its driver, or a cpu device.");
    }

    public PreparedTrial Prepare(TrialPlan plan, CancellationToken cancellationToken)
    {
        using var threads = ThreadCount.Enter(plan.Spec.Resources.Threads);
        // A fresh one: what is cached may hold the weights of a step.
        Forget(KeyOf(plan.Spec));
        var model = Load(plan);
        return new PreparedTrial(model.Initial(), model.Sha256);
    }

    public ShardGradient Differentiate(TrialPlan plan, ParameterVersion parameters, int step, int shard, CancellationToken cancellationToken)
    {
        using var threads = ThreadCount.Enter(plan.Spec.Resources.Threads);
        var samples = plan.Spec.Training.SamplesPerShard;
        if (!plan.Lean)
            return Differentiate(plan, parameters, step, shard, 0, samples, cancellationToken);

        // Every sample has the noise and the class that it has in the whole batch.
        var spec = plan.Spec with { Gradient = plan.Spec.Gradient with { Method = plan.Spec.Gradient.Method == GradientName.StoreAll ? GradientName.Discrete : plan.Spec.Gradient.Method } };
        var (total, sums, statistics) = (Array.Empty<float>(), new Dictionary<string, double>(), new WorkStatistics());
        for (var sample = 0; sample < samples; sample++)
        {
            var one = Differentiate(plan with { Spec = spec }, parameters, step, shard, sample, 1, cancellationToken);
            var gradient = MemoryMarshal.Cast<byte, float>(one.Gradient);
            if (sample == 0)
                total = new float[gradient.Length];
            System.Numerics.Tensors.TensorPrimitives.Add(total, gradient, total);
            foreach (var (name, value) in one.Sums)
                sums[name] = sums.GetValueOrDefault(name) + value;
            statistics = one.Statistics.After(statistics);
        }
        System.Numerics.Tensors.TensorPrimitives.Multiply(total, 1f / samples, total);
        return new ShardGradient(MemoryMarshal.AsBytes<float>(total).ToArray(), samples, sums, statistics);
    }

    private ShardGradient Differentiate(TrialPlan plan, ParameterVersion parameters, int step, int shard, int from, int samples, CancellationToken cancellationToken)
    {
        var (spec, model) = (plan.Spec, Load(plan));
        using var scope = NewDisposeScope();
        model.Use(parameters);
        var key = new NoiseKey((ulong)spec.Training.Seed, (uint)step, (ushort)shard);
        var first = ((long)step * spec.Training.Shards + shard) * spec.Training.SamplesPerShard + from;
        var labels = Labels(model, spec, first, samples);
        var request = Request(spec, model, labels, key, samples, (uint)from);
        using var loss = Loss(spec, model, labels, request);
        using var solved = Sampling.Differentiate(Declared(request, model), loss.Mean, SolveMethods.Gradient(spec.Gradient), cancellationToken);
        var gradient = TorchBytes.Read(model.Part.Gradients(solved));
        return new ShardGradient(gradient, samples, loss.Sums(solved.Sample), Statistics(spec, samples, solved.Statistics));
    }

    public GradientProofReport Prove(TrialPlan plan, ParameterVersion parameters, CancellationToken cancellationToken)
    {
        using var threads = ThreadCount.Enter(plan.Spec.Resources.Threads);
        var check = plan.Spec.Gradient.Check;
        // In float64, where an exact gradient shows as such, on a network apart from the one that is trained.
        var spec = plan.Spec with
        {
            Model = plan.Spec.Model with { Dtype = NumberFormat.Float64 },
            Sample = plan.Spec.Sample with { Steps = check.Steps ?? plan.Spec.Sample.Steps },
        };
        var model = Load(plan with { Spec = spec });
        try
        {
            using var scope = NewDisposeScope();
            model.Use(parameters);
            var key = new NoiseKey((ulong)spec.Training.Seed, Step: uint.MaxValue);
            var labels = Labels(model, spec, 0, check.Samples);
            var request = Request(spec, model, labels, key, check.Samples);
            using var loss = Loss(spec, model, labels, request);
            var proof = GradientProof.Run(
                Declared(request, model), loss.Mean, SolveMethods.Gradient(spec.Gradient),
                new()
                {
                    Group = ModuleOf,
                    DifferenceByGroup = check.Mode == ProofMode.Only,
                    MinCosine = check.MinCosine,
                    MaxNormError = check.MaxNormError,
                    Key = key with { Shard = ushort.MaxValue },
                }, cancellationToken);
            return ProofReports.Of(proof, request, check.Samples);
        }
        finally
        {
            if (plan.Spec.Model.Dtype != NumberFormat.Float64)
                Forget(KeyOf(spec));
        }
    }

    /// <summary>What a shard's gradient would hold, measured with a few evaluations of the model itself.</summary>
    public ShardMemory Memory(ExperimentSpec spec, long? budget, CancellationToken cancellationToken)
    {
        using var threads = ThreadCount.Enter(spec.Resources.Threads);
        var model = Load(new TrialPlan(spec, ""));
        using var scope = NewDisposeScope();
        var samples = spec.Training.SamplesPerShard;
        var labels = Labels(model, spec, 0, samples);
        var request = Request(spec, model, labels, new NoiseKey((ulong)spec.Training.Seed), samples);
        using var loss = Loss(spec, model, labels, request);
        var measured = MemoryModel.Measure(Declared(request, model), loss.Mean);
        cancellationToken.ThrowIfCancellationRequested();
        var weights = model.Sampled.Networks.Sum(network => network.state_dict().Values.Sum(value => value.numel() * value.element_size()));
        var own = measured.Plan(SolveMethods.Gradient(spec.Gradient));
        var chosen = budget is { } most ? measured.Choose(most - weights) : null;
        var rows = new[] { own, chosen, measured.Plan(GradientMethod.Discrete), measured.Plan(GradientMethod.Checkpointed(1)), measured.Plan(GradientMethod.StoreAll) }
            .Where(plan => plan is not null).DistinctBy(plan => plan!.Method.Name).Select(plan => new MethodMemory(plan!.Method.Name, plan.PeakBytes, plan.States, plan.NetworkGraphs, plan.LossGraph, plan.InputGradients, plan.Evaluations)
            {
                IsConfigured = plan.Method.Name == own.Method.Name,
                IsChosen = plan.Method.Name == chosen?.Method.Name,
            });
        long trained = model.Initial().Length / sizeof(float);
        // Parameters in float32 and, of AdamW, two moments.
        return new ShardMemory(samples, spec.Sample.Steps, weights, trained, trained * sizeof(float) * (spec.Optimizer.Name == OptimizerName.AdamW ? 3 : 1), [.. rows]);
    }

    public Evaluation Evaluate(TrialPlan plan, ParameterVersion parameters, int firstSample, int samples, CancellationToken cancellationToken)
    {
        using var threads = ThreadCount.Enter(plan.Spec.Resources.Threads);
        var (spec, model) = (plan.Spec, Load(plan));
        using var scope = NewDisposeScope();
        model.Use(parameters);
        var heldOut = spec.HeldOut ?? new HeldOutSpec();
        var labels = Labels(model, spec, firstSample, samples);
        var request = Request(spec, model, labels, new NoiseKey((ulong)heldOut.Seed), samples, (uint)firstSample);
        using var loss = Loss(spec, model, labels, request);
        using var drawn = Sampling.Sample(request, cancellationToken);
        var sums = loss.Sums(drawn.Sample);
        if (heldOut.Classifier is { } judge)
            sums["accuracy"] = Recognised(ClassifierOf(judge, model.Dtype), model.Sampled.Picture(drawn.Sample), model.Sampled.Classes(labels), judge);
        return new Evaluation(samples, sums, Statistics(spec, samples, drawn.Statistics));
    }

    public void Save(TrialPlan plan, ParameterVersion before, ParameterVersion after, string metricsFile, string folder, CancellationToken cancellationToken)
    {
        using var threads = ThreadCount.Enter(plan.Spec.Resources.Threads);
        var (spec, model) = (plan.Spec, Load(plan));
        using var scope = NewDisposeScope();
        var columns = model.Sampled.Conditions(spec, folder => ClassifierOf(folder, model.Dtype).Classes) is { Length: > 0 } classes ? classes.Length : 8;
        var pictures = new[] { before, after }.Select(version =>
        {
            model.Use(version);
            return Sheet(spec, model, columns, cancellationToken);
        }).ToArray();
        SampleSheet.Write(folder, pictures[0], pictures[1], columns);
        LossCurve.Write(Path.Combine(folder, "loss.svg"), [.. Trials.TrialFiles.ReadMetrics(metricsFile).Select(record => record.Metrics["loss"])]);
        File.Copy(metricsFile, Path.Combine(folder, "metrics.jsonl"));
        model.Sampled.Save(Path.Combine(folder, "model"), model.Part.Adapters);
        model.Part.SaveBeside(folder, model.Sampled, spec);
    }

    public bool Spare(TrialPlan plan)
    {
        var (key, dtype) = (KeyOf(plan.Spec), LoadedModel.DtypeOf(plan.Spec));
        var unused = _models.Where(entry => entry.Key != key).ToList();
        foreach (var entry in unused)
            Forget(entry.Key);
        var named = ClassifiersOf(plan.Spec).ToHashSet();
        var others = _classifiers.Where(known => known.Key.Dtype != dtype || !named.Contains(known.Key.Folder)).ToList();
        foreach (var (place, (_, classifier)) in others)
        {
            _classifiers.Remove(place);
            classifier.Dispose();
        }
        var frozen = !NeedsFrozen(plan.Spec) && _models.Count == 1 && _models[0].Model.DropFrozen();
        return unused.Count > 0 || others.Count > 0 || frozen;
    }

    public void Dispose()
    {
        foreach (var (_, model) in _models)
            model.Dispose();
        foreach (var (_, classifier) in _classifiers.Values)
            classifier.Dispose();
    }

    /// <summary>Samples on seeds of their own, row by row, one column for each class: pixels in [-1, 1].</summary>
    private SheetPixels Sheet(ExperimentSpec spec, LoadedModel model, int columns, CancellationToken cancellationToken)
    {
        var seed = (ulong)(spec.HeldOut ?? new HeldOutSpec()).Seed;
        var rows = new List<float[]>();
        long[] shape = [];
        for (var row = 0; row < spec.Checkpoint.SheetRows; row++)
        {
            using var scope = NewDisposeScope();
            var request = Request(spec, model, Labels(model, spec, (long)row * columns, columns), new NoiseKey(seed, Step: 1), columns, (uint)(row * columns));
            using var drawn = Sampling.Sample(request, cancellationToken);
            using var frozen = no_grad();
            var pictures = model.Sampled.Picture(drawn.Sample);
            shape = pictures.shape;
            rows.Add(pictures.to(ScalarType.Float32).cpu().contiguous().data<float>().ToArray());
        }
        return new SheetPixels([.. rows.SelectMany(row => row)], (int)shape[1], (int)shape[2], (int)shape[3]);
    }

    /// <summary>The solve of the spec, from the noise of a key.</summary>
    private SampleRequest Request(ExperimentSpec spec, LoadedModel model, long[] labels, NoiseKey key, int samples, uint first = 0) => new()
    {
        Field = FieldOf(spec, model, model.Sampled, labels),
        Noise = CounterNoise.Normal(key, model.Shape(samples), model.Dtype, _device, first),
        Grid = SolveMethods.Grid(spec.Sample, model.Schedule),
        Sampler = SolveMethods.Sampler(spec.Sample),
        Key = key,
        FirstSample = first,
    };

    private static NoiseField FieldOf(ExperimentSpec spec, LoadedModel model, SampledModel network, long[] labels) =>
        network.Field(labels, spec.Sample.Guidance) with { Prediction = model.Prediction };

    /// <summary>The request with what is trained declared, and the rest of the network held fixed.</summary>
    private static SampleRequest Declared(SampleRequest request, LoadedModel model) => request with { Field = model.Part.Declare(request.Field.Freeze(model.Network)) };

    /// <summary>First module of a weight's name, and the second where that is one of a list: mid_block, up_blocks.1.</summary>
    private static string ModuleOf(string name)
    {
        var parts = name.Split('.');
        return parts.Length > 1 && int.TryParse(parts[1], out _) ? $"{parts[0]}.{parts[1]}" : parts[0];
    }

    private TrialLoss Loss(ExperimentSpec spec, LoadedModel model, long[] labels, SampleRequest request) =>
        new(spec, folder => ClassifierOf(folder, model.Dtype), model.Sampled.Classes(labels), model.Sampled.Channels, model.Sampled.Picture, () =>
        {
            using var drawn = Sampling.Sample(request with { Field = FieldOf(spec, model, model.Frozen, labels) });
            return drawn.Sample.view_as(drawn.Sample);
        });

    private long[] Labels(LoadedModel model, ExperimentSpec spec, long first, int samples)
    {
        var classes = model.Sampled.Conditions(spec, folder => ClassifierOf(folder, model.Dtype).Classes);
        return classes.Length == 0 ? [] : [.. Enumerable.Range(0, samples).Select(i => (long)classes[(first + i) % classes.Length])];
    }

    private static double Recognised(ImageClassifier judge, Tensor samples, long[] labels, string path)
    {
        if (labels.Length == 0)
            throw new InvalidDataException($"heldOut.classifier is '{path}', but the model has no classes that it could recognise. Remove it.");
        using var frozen = no_grad();
        using var scope = NewDisposeScope();
        var said = judge.Logits(samples.to(judge.Dtype())).argmax(1).cpu().data<long>().ToArray();
        return said.Zip(labels).Count(pair => pair.First == pair.Second);
    }

    /// <summary>The trial's model and all classifiers it names. Outside any dispose scope, since they are kept.</summary>
    private LoadedModel Load(TrialPlan plan)
    {
        foreach (var folder in ClassifiersOf(plan.Spec))
            LoadClassifier(folder, LoadedModel.DtypeOf(plan.Spec));
        var key = KeyOf(plan.Spec);
        var index = _models.FindIndex(entry => entry.Key == key);
        if (index >= 0)
        {
            var entry = _models[index];
            _models.RemoveAt(index);
            _models.Add(entry);
        }
        else
        {
            if (_models.Count == MostModels)
                Forget(_models[0].Key);
            _models.Add((key, new LoadedModel(plan.Spec, _device)));
        }
        var model = _models[^1].Model;
        if (plan.ModelSha256.Length > 0 && plan.ModelSha256 != model.Sha256)
            throw new InvalidDataException($"The model at '{plan.Spec.Model.Path}' is not the one the trial began with (SHA-256 {model.Sha256[..12]}…, not {plan.ModelSha256[..12]}…). Put the same files on every host and do not change them while a trial runs.");
        if (NeedsFrozen(plan.Spec))
            model.LoadFrozen();
        return model;
    }

    private static IEnumerable<string> ClassifiersOf(ExperimentSpec spec) => spec.Losses.Select(loss => loss.Classifier).Append(spec.HeldOut?.Classifier).OfType<string>();

    private static bool NeedsFrozen(ExperimentSpec spec) => spec.Losses.Any(loss => loss is { Name: LossName.PixelDistance, Reference: null });

    private void Forget(string key)
    {
        var index = _models.FindIndex(entry => entry.Key == key);
        if (index < 0)
            return;
        _models[index].Model.Dispose();
        _models.RemoveAt(index);
    }

    private static string KeyOf(ExperimentSpec spec) =>
        string.Join('|', LoadedModel.Stamp(spec.Model.Path), spec.Model.Dtype, spec.Train.Target, string.Join(',', spec.Train.Include), spec.Train.Rank, spec.Train.Alpha, spec.Train.Target == TrainTarget.Lora ? spec.Training.Seed : 0,
            string.Join('\n', spec.Sample.Prompts ?? []), spec.Sample.NegativePrompt, string.Join(',', spec.Sample.Classes ?? []), spec.Sample.Height, spec.Sample.Width);

    /// <summary>Judges compute in the network's dtype, so that a float64 run is one throughout.</summary>
    private ImageClassifier ClassifierOf(string folder, ScalarType dtype) => _classifiers[(folder, dtype)].Classifier;

    private void LoadClassifier(string folder, ScalarType dtype)
    {
        var stamp = LoadedModel.Stamp(folder);
        if (_classifiers.TryGetValue((folder, dtype), out var known) && known.Stamp == stamp)
            return;
        known.Classifier?.Dispose();
        _classifiers.Remove((folder, dtype));
        var classifier = ClassifierFolder.Load(folder);
        classifier.to(_device, dtype);
        _classifiers[(folder, dtype)] = (stamp, classifier);
    }

    private WorkStatistics Statistics(ExperimentSpec spec, int samples, SolveStatistics solve) => new()
    {
        Device = _name,
        Threads = spec.Resources.Threads,
        Samples = samples,
        ForwardNfe = solve.ForwardNfe,
        BackwardNfe = solve.BackwardNfe,
        Vjps = solve.Vjps,
        PeakLiveTensors = solve.PeakLiveTensors,
        ForwardSeconds = solve.Forward.TotalSeconds,
        LossSeconds = solve.Loss.TotalSeconds,
        BackwardSeconds = solve.Backward.TotalSeconds,
    };
}

/// <summary>Makes the engines of real devices.</summary>
internal sealed class GradientEngineFactory : IGradientEngineFactory
{
    public IGradientEngine Create(string device) => new GradientEngine(device);
}

/// <summary>Plans for experiments outside any cluster.</summary>
public static class ExperimentMemory
{
    /// <summary>What a shard of an experiment would hold on this machine, by gradient method.</summary>
    /// <param name="spec">Spec; a search over it is left out.</param>
    /// <param name="budget">Bytes for weights and gradient together; null for no limit.</param>
    /// <param name="cancellationToken">Looked at between measurements.</param>
    public static ShardMemory Plan(ExperimentSpec spec, long? budget, CancellationToken cancellationToken = default)
    {
        using var engine = new GradientEngine("cpu:0");
        return engine.Memory(spec, budget, cancellationToken);
    }
}
