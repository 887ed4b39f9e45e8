using System.Runtime.InteropServices;
using AdjointDpm.Gradients;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tools;
using AdjointDpm.Grains.Trials;
using AdjointDpm.Native;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Workers.Engine;

/// <summary>Samples and differentiates on one device. The only family of files where grains' work meets TorchSharp.</summary>
/// <remarks>Every method is a pure function of its arguments and the files they name: who calls, how often and in which order does not show in the bits.</remarks>
internal sealed partial class GradientEngine : IGradientEngine
{
    /// <summary>Models kept at once: two trials that alternate on a device do not reload.</summary>
    private const int MostModels = 2;

    private readonly Device _device;
    private readonly string _name;
    private readonly List<(string Key, LoadedModel Model)> _models = [];
    private readonly LossNetworks _networks;
    private Signal? _progress;

    /// <param name="name">Device, such as cpu:0.</param>
    /// <param name="own">Losses that the host brought; null for none.</param>
    public GradientEngine(string name, OwnLosses? own = null)
    {
        NativeTorch.EnsureLoaded();
        _name = name;
        _device = name.StartsWith("cuda", StringComparison.Ordinal) ? device(name) : CPU;
        _networks = new LossNetworks(_device, own ?? OwnLosses.None);
        if (_device.type == DeviceType.CUDA && !cuda.is_available())
            throw new NotSupportedException($"Device '{name}' was asked for, but libtorch finds no CUDA device. Use a build with CUDA on a host with its driver, or a cpu device.");
    }

    public PreparedTrial Prepare(TrialPlan plan, CancellationToken cancellationToken)
    {
        using var threads = ThreadCount.Enter(plan.Spec.Resources.Threads);
        // A fresh one: what is cached may hold the weights of a step.
        Forget(KeyOf(plan.Spec));
        var model = Load(plan);
        return new PreparedTrial(model.Initial(), model.Sha256, model.Sampled.PlannedBytes(plan.Spec), Hardware.Of(_name), ArithmeticKind.Of(_name));
    }

    public ShardGradient Differentiate(TrialPlan plan, ParameterVersion parameters, int step, int shard, CancellationToken cancellationToken)
    {
        using var threads = ThreadCount.Enter(plan.Spec.Resources.Threads);
        var samples = plan.Spec.Training.SamplesPerShard;
        if (!plan.Lean)
            return Noted(threads, plan, Differentiate(plan, parameters, step, shard, 0, samples, cancellationToken));

        // Every sample has the noise and the class that it has in the whole batch.
        var spec = plan.Spec with { Gradient = plan.Spec.Gradient with { Method = plan.Spec.Gradient.Method == GradientName.StoreAll ? GradientName.Discrete : plan.Spec.Gradient.Method } };
        var norms = new List<IReadOnlyList<double>?>();
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
            norms.Add(one.Statistics.AdjointNorms);
        }
        System.Numerics.Tensors.TensorPrimitives.Multiply(total, 1f / samples, total);
        statistics = statistics with { AdjointNorms = StepProfiles.Mean(norms) };
        return Noted(threads, plan, new ShardGradient(MemoryMarshal.AsBytes<float>(total).ToArray(), samples, sums, statistics));
    }

    private ShardGradient Differentiate(TrialPlan plan, ParameterVersion parameters, int step, int shard, int from, int samples, CancellationToken cancellationToken)
    {
        var (spec, model) = (plan.Spec, Load(plan));
        using var scope = NewDisposeScope();
        model.Use(parameters);
        var batch = ShardSamples.OfStep(spec, Conditions(model, spec), step, shard, from, samples);
        var request = Request(spec, model, batch);
        using var loss = Loss(spec, model, batch, request, cancellationToken);
        using var solved = ShardSolve.Of(spec, Declared(request, model), () => FieldOf(spec, model, model.Frozen, batch.Conditions), loss, cancellationToken);
        var of = solved;
        if (loss.NoiseGradient(request.Noise) is { } direct)
        {
            // Of the sum over the batch; the rest is of its mean.
            using var share = (1.0 / samples).ToScalar();
            of = solved with { Noise = solved.Noise!.add(direct, share) };
        }
        var gradient = TorchBytes.Read(model.Part.Gradients(of, batch));
        return new ShardGradient(gradient, samples, loss.Sums(solved.Sample, request.Noise), Statistics(spec, samples, solved.Statistics) with { AdjointNorms = solved.AdjointNorms });
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
            var batch = new ShardSamples(new NoiseKey((ulong)spec.Training.Seed, Step: uint.MaxValue), 0, 0, check.Samples, 0, ShardSamples.ConditionsOf(spec, Conditions(model, spec), 0, check.Samples));
            var key = batch.Key;
            var request = Drawn(spec, model, batch, CounterNoise.Normal(key, model.Shape(check.Samples), model.Dtype, _device));
            using var loss = Loss(spec, model, batch, request, cancellationToken);
            var declared = Declared(request, model);
            var options = new GradientProofOptions
            {
                Group = ModuleOf,
                DifferenceByGroup = check.Mode == ProofMode.Only,
                MinCosine = check.MinCosine,
                MaxNormError = check.MaxNormError,
                Key = key with { Shard = ushort.MaxValue },
            };
            if (SolveMethods.Estimator(spec.Gradient) is not { } estimator)
                return ProofReports.Of(GradientProof.Run(declared, loss.Mean, SolveMethods.Gradient(spec.Gradient), options, cancellationToken), request, check.Samples);
            // What training does, once, with the draw that this batch has. Of x_T, which is not trained, it has no gradient that would mean anything.
            using var solved = ShardSolve.Of(spec, declared, () => FieldOf(spec, model, model.Frozen, batch.Conditions), loss, cancellationToken);
            return ProofReports.Of(GradientProof.Measure(declared, loss.Mean, estimator, new(null, solved.Inputs, solved.Statistics), options, cancellationToken), request, check.Samples);
        }
        finally
        {
            if (plan.Spec.Model.Dtype != NumberFormat.Float64)
                Forget(KeyOf(spec));
        }
    }

    /// <summary>One shard's gradient at the untrained weights, for what it costs.</summary>
    public WorkStatistics Cost(ExperimentSpec spec, CancellationToken cancellationToken)
    {
        var plan = new TrialPlan(spec, "");
        using (ThreadCount.Enter(spec.Resources.Threads))
        {
            var initial = Load(plan).Initial();
            return Differentiate(plan, new ParameterVersion(DataPlane.TensorReference.HashOf(initial), initial), 0, 0, cancellationToken).Statistics;
        }
    }

    public Evaluation Evaluate(TrialPlan plan, ParameterVersion parameters, int firstSample, int samples, CancellationToken cancellationToken)
    {
        using var threads = ThreadCount.Enter(plan.Spec.Resources.Threads);
        var (spec, model) = (plan.Spec, Load(plan));
        using var scope = NewDisposeScope();
        model.Use(parameters);
        var batch = ShardSamples.OfEvaluation(spec, Conditions(model, spec), firstSample, samples);
        var request = Request(spec, model, batch);
        var once = BatchOf(spec, model, batch, request, cancellationToken);
        // Drawn once, however many of the judges compare with it.
        Tensor? untrained = null;
        var seen = once with
        {
            Frozen = () =>
            {
                if (untrained is null)
                    scope.Attach(untrained = once.Frozen().DetachFromDisposeScope());
                return untrained.alias();
            },
        };
        using var loss = new TrialLoss(seen);
        using var drawn = Draw(spec, request, loss, plan.Guided, cancellationToken);
        var sums = loss.Sums(drawn.Sample, request.Noise);
        HeldOutSums.Add(sums, spec, batch, seen, drawn.Sample, request.Noise);
        if (model.Part is NoisePart noise)
            new NoiseAudit(spec, noise, batch, _networks, model).Count(sums, request, drawn.Sample, cancellationToken);
        return new Evaluation(samples, sums, Statistics(spec, samples, drawn.Statistics));
    }

    public void Save(TrialPlan plan, ParameterVersion before, ParameterVersion after, string metricsFile, string folder, CancellationToken cancellationToken)
    {
        using var threads = ThreadCount.Enter(plan.Spec.Resources.Threads);
        var (spec, model) = (plan.Spec, Load(plan));
        using var scope = NewDisposeScope();
        var columns = Columns(spec, model);
        var pictures = new[] { before, after }.Select((version, n) =>
        {
            model.Use(version);
            return Sheet(spec, model, columns, guided: n == 1 && spec.Train.Target == TrainTarget.None, cancellationToken);
        }).ToArray();
        SampleSheet.Write(folder, pictures[0], pictures[1], columns);
        LossCurve.Write(Path.Combine(folder, "loss.svg"), [.. TrialFiles.ReadMetrics(metricsFile).Select(record => record.Metrics["loss"])]);
        File.Copy(metricsFile, Path.Combine(folder, "metrics.jsonl"));
        if (model.Part.ChangesModel)
            model.Sampled.Save(Path.Combine(folder, "model"), network => model.Part.BringTo(network, after));
        model.Part.SaveBeside(folder, model.Sampled, spec);
    }

    public byte[] Draw(TrialPlan plan, ParameterVersion parameters, CancellationToken cancellationToken)
    {
        using var threads = ThreadCount.Enter(plan.Spec.Resources.Threads);
        var (spec, model) = (plan.Spec with { Checkpoint = plan.Spec.Checkpoint with { SheetRows = 1 } }, Load(plan));
        using var scope = NewDisposeScope();
        model.Use(parameters);
        var columns = Columns(spec, model);
        return SampleSheet.Row(Sheet(spec, model, columns, guided: false, cancellationToken), columns);
    }

    /// <summary>Columns of a sheet: one for each class or prompt.</summary>
    private int Columns(ExperimentSpec spec, LoadedModel model)
    {
        var columns = Conditions(model, spec) is { Length: > 0 } classes ? classes.Length : 8;
        return FixedSamples.Are(spec) ? Math.Min(columns == 1 ? 8 : columns, FixedSamples.Total(spec) / FixedSamples.Restarts(spec)) : columns;
    }

    /// <summary>Each loss of a spec that looks at pictures, on samples of its model, in float64 where the loss can.</summary>
    public IReadOnlyList<RewardFitness> CheckRewards(ExperimentSpec spec, int samples, IProgress<ToolProgress>? telling, CancellationToken cancellationToken)
    {
        using var threads = ThreadCount.Enter(spec.Resources.Threads);
        var found = new List<RewardFitness>();
        for (var i = 0; i < spec.Losses.Count; i++)
        {
            telling?.Report(new("testing losses", i, spec.Losses.Count));
            // A loss of x_T, for which no pictures stand.
            if (spec.Losses[i].Name == LossName.NoiseNorm)
                continue;
            // What comes over a wire comes in float32.
            var dtype = spec.Losses[i].Name == LossName.Sidecar ? spec.Model.Dtype == NumberFormat.Float64 ? NumberFormat.Float32 : spec.Model.Dtype : NumberFormat.Float64;
            var one = spec with { Losses = [spec.Losses[i]], Model = spec.Model with { Dtype = dtype } };
            var model = Load(new TrialPlan(one, ""));
            using var scope = NewDisposeScope();
            var batch = new ShardSamples(new NoiseKey((ulong)spec.Training.Seed, Step: uint.MaxValue), 0, 0, samples, 0, ShardSamples.ConditionsOf(spec, Conditions(model, one), 0, samples));
            var request = Drawn(one, model, batch, CounterNoise.Normal(batch.Key, model.Shape(samples), model.Dtype, _device));
            using var drawn = Sampling.Sample(request, cancellationToken);
            var name = $"losses[{i}] {ExperimentSpecJson.NameOf(spec.Losses[i].Name)}";
            Tensor at;
            using (no_grad())
                at = model.Sampled.Picture(drawn.Sample).detach();
            using var parts = new LossParts(BatchOf(one, model, batch, request, cancellationToken));
            var loss = parts.Make(spec.Losses[i], i, out var owned);
            found.Add(RewardChecks.Of(name, loss, at));
            owned?.Dispose();
        }
        return found;
    }

    public bool Spare(TrialPlan plan)
    {
        var (key, dtype) = (KeyOf(plan.Spec), LoadedModel.DtypeOf(plan.Spec));
        var unused = _models.Where(entry => entry.Key != key).ToList();
        foreach (var entry in unused)
            Forget(entry.Key);
        var others = _networks.Spare(plan.Spec, dtype);
        var frozen = !NeedsFrozen(plan.Spec) && _models.Count == 1 && _models[0].Model.DropFrozen();
        return unused.Count > 0 || others || frozen;
    }

    public void Dispose()
    {
        foreach (var (_, model) in _models)
            model.Dispose();
        _networks.Dispose();
    }

    /// <summary>Samples on seeds of their own, row by row, one column for each class: pixels in [-1, 1]. Of a fixed set its own samples, one start of each.</summary>
    private SheetPixels Sheet(ExperimentSpec spec, LoadedModel model, int columns, bool guided, CancellationToken cancellationToken)
    {
        var seed = (ulong)(spec.HeldOut ?? new HeldOutSpec()).Seed;
        var (conditions, isFixed, restarts) = (Conditions(model, spec), FixedSamples.Are(spec), FixedSamples.Restarts(spec));
        var rows = Math.Min(spec.Checkpoint.SheetRows, isFixed ? FixedSamples.Total(spec) / restarts / columns : int.MaxValue);
        var values = new List<float[]>();
        long[] shape = [];
        // Samples of a fixed set may be of several shards, so one after another.
        var pieces = isFixed
            ? Enumerable.Range(0, rows * columns).Select(i => ShardSamples.OfEvaluation(spec, conditions, i * restarts, 1))
            : Enumerable.Range(0, rows).Select(row => new ShardSamples(new NoiseKey(seed, Step: 1), 0, row * columns, columns, (long)row * columns, ShardSamples.ConditionsOf(spec, conditions, (long)row * columns, columns)));
        foreach (var batch in pieces)
        {
            using var scope = NewDisposeScope();
            var request = Request(spec, model, batch);
            using var loss = guided ? Loss(spec, model, batch, request, cancellationToken) : null;
            using var drawn = Draw(spec, request, loss, guided, cancellationToken);
            using var frozen = no_grad();
            var pictures = model.Sampled.Picture(drawn.Sample);
            shape = pictures.shape;
            values.Add(pictures.to(ScalarType.Float32).cpu().contiguous().data<float>().ToArray());
        }
        return new SheetPixels([.. values.SelectMany(row => row)], (int)shape[1], (int)shape[2], (int)shape[3]);
    }

    private static SampleResult Draw(ExperimentSpec spec, SampleRequest request, TrialLoss? loss, bool guided, CancellationToken cancellationToken) => !guided || spec.Sample.LookAhead is not { } ahead
        ? Sampling.Sample(request, cancellationToken)
        : Sampling.Sample(
            request,
            new LookAheadGuidance
            {
                // A sum, so that a sample's gradient does not depend on how many are drawn together.
                Loss = x => loss!.PerSample(x).sum(),
                Ahead = ahead.Steps,
                Strength = ahead.Strength,
                Normalise = ahead.Normalize,
                From = ahead.From,
                Until = ahead.Until,
                Repeats = ahead.Repeats,
            },
            cancellationToken);

    /// <summary>The solve of the spec, from the noise of a batch.</summary>
    private SampleRequest Request(ExperimentSpec spec, LoadedModel model, ShardSamples batch) => Drawn(spec, model, batch, model.Part is NoisePart part
        ? part.Of(batch.Shard, batch.From, batch.Count)
        : CounterNoise.Normal(batch.Key, model.Shape(batch.Count), model.Dtype, _device, (uint)batch.From));

    private SampleRequest Drawn(ExperimentSpec spec, LoadedModel model, ShardSamples batch, Tensor noise) => new()
    {
        Field = FieldOf(spec, model, model.Sampled, batch.Conditions),
        Noise = noise,
        Grid = SolveMethods.Grid(spec.Sample, model.Schedule),
        Sampler = SolveMethods.Sampler(spec.Sample),
        Key = batch.Key,
        FirstSample = (uint)batch.From,
        Progress = _progress,
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

    private TrialLoss Loss(ExperimentSpec spec, LoadedModel model, ShardSamples batch, SampleRequest request, CancellationToken cancellationToken) => new(BatchOf(spec, model, batch, request, cancellationToken));

    private LossBatch BatchOf(ExperimentSpec spec, LoadedModel model, ShardSamples batch, SampleRequest request, CancellationToken cancellationToken) => new()
    {
        Spec = spec,
        Networks = _networks,
        Dtype = model.Dtype,
        Device = _device,
        Labels = model.Sampled.Classes(batch.Conditions),
        Conditions = batch.Conditions,
        Channels = model.Sampled.Channels,
        Picture = model.Sampled.Picture,
        Step = (uint)batch.Step,
        Cancellation = cancellationToken,
        Frozen = () =>
        {
            // Where the noise itself is trained, what was there before is the sample of the noise that it began with.
            var untrained = model.Part is NoisePart part
                ? request with { Noise = part.Centre(batch.Shard, batch.From, batch.Count) }
                : request with { Field = FieldOf(spec, model, model.Frozen, batch.Conditions) };
            using var drawn = Sampling.Sample(untrained, cancellationToken);
            return drawn.Sample.view_as(drawn.Sample);
        },
    };

    private int[] Conditions(LoadedModel model, ExperimentSpec spec) => model.Sampled.Conditions(spec, folder => _networks.Classifier(folder, model.Dtype).Classes);

    /// <summary>The trial's model and all networks its losses name. Outside any dispose scope, since they are kept.</summary>
    private LoadedModel Load(TrialPlan plan)
    {
        _progress = plan.Progressed is { } progressed ? new Signal(progressed) : null;
        _networks.Load(plan.Spec, LoadedModel.DtypeOf(plan.Spec));
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
        _networks.LoadReferences(plan.Spec, model.Dtype, model.Sampled.Channels);
        if (NeedsFrozen(plan.Spec))
            model.LoadFrozen();
        plan.Progressed?.Invoke();
        return model;
    }

    /// <summary>Whether the untrained network is looked at, too. Where the noise is trained it is the network itself.</summary>
    private static bool NeedsFrozen(ExperimentSpec spec) => spec.Train.Target != TrainTarget.Noise
        && (spec.Gradient.Method == GradientName.AdjointMatching || spec.HeldOut?.Distance == true
            || spec.AllLosses().Any(loss => loss is { Name: LossName.PixelDistance or LossName.Content or LossName.Perceptual or LossName.GaussianDivergence, Reference: null }));

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
            string.Join(',', spec.Train.Positions ?? []), spec.Train.Target == TrainTarget.Noise ? $"{spec.Training.Seed}/{spec.Training.Shards}x{spec.Training.SamplesPerShard}/{spec.Train.Noise?.Box}" : "",
            string.Join('\n', spec.Sample.Prompts ?? []), spec.Sample.NegativePrompt, string.Join(',', spec.Sample.Classes ?? []), spec.Sample.Height, spec.Sample.Width, spec.Model.Checkpointing, spec.Model.DecoderSlices, spec.Model.DecoderTiles, spec.Model.FusedAttention,
            spec.Model.Prediction, string.Join(',', (spec.Model.Loras ?? []).Select(lora => FormattableString.Invariant($"{LoadedModel.Stamp(lora.Path)}*{lora.Weight:r}"))), spec.Train.From is { } from ? LoadedModel.Stamp(from) : "");

    /// <summary>Every step of a sampler, to whoever wants to know that the work gets on.</summary>
    private sealed class Signal(Action progressed) : IProgress<SolveProgress>
    {
        public void Report(SolveProgress value) => progressed();
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
        PeakLiveBytes = solve.PeakLiveBytes,
        ForwardSeconds = solve.Forward.TotalSeconds,
        LossSeconds = solve.Loss.TotalSeconds,
        BackwardSeconds = solve.Backward.TotalSeconds,
    };
}

/// <summary>Makes the engines of real devices.</summary>
internal sealed class GradientEngineFactory(IEnumerable<OwnLoss> losses) : IGradientEngineFactory
{
    private readonly OwnLosses _own = new(losses);

    public IGradientEngine Create(string device) => new GradientEngine(device, _own);
}
