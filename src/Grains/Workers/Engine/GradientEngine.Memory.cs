using AdjointDpm.Gradients;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Tools;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Workers.Engine;

internal sealed partial class GradientEngine
{
    /// <summary>What a shard's gradient would hold, measured with a few evaluations of the model itself.</summary>
    public ShardMemory Memory(ExperimentSpec spec, long? budget, CancellationToken cancellationToken)
    {
        using var threads = ThreadCount.Enter(spec.Resources.Threads);
        var model = Load(new TrialPlan(spec, ""));
        using var scope = NewDisposeScope();
        var samples = spec.Training.SamplesPerShard;
        var batch = ShardSamples.OfStep(spec, Conditions(model, spec), 0, 0, 0, samples);
        var request = Request(spec, model, batch);
        using var loss = Loss(spec, model, batch, request, cancellationToken);
        var measured = MemoryModel.Measure(Declared(request, model), loss.Mean);
        cancellationToken.ThrowIfCancellationRequested();
        var weights = model.Bytes;
        var own = measured.Plan(SolveMethods.Gradient(spec.Gradient));
        MemoryModel Again(ModelSpec way)
        {
            cancellationToken.ThrowIfCancellationRequested();
            model.Sampled.Spare(way);
            try
            {
                return MemoryModel.Measure(Declared(request, model), loss.Mean);
            }
            finally
            {
                model.Sampled.Spare(spec.Model);
            }
        }

        var ways = Ways(spec.Model, model.Sampled, samples).ToList();
        var chosen = budget is { } most ? Chosen(measured, ways, Again, spec.Model, most - weights) : default;
        // The same with blocks that are computed again, where the spec does not do so anyway.
        var again = spec.Model.Checkpointing == true ? null : Again(ways[0]).Plan(GradientMethod.Discrete);
        // Discrete evaluates twice for each product; recomputed blocks add an evaluation to each.
        var products = measured.Plan(GradientMethod.Discrete).Evaluations / 2;
        var rows = new[] { own, chosen.Way == spec.Model ? chosen.Plan : null, measured.Plan(GradientMethod.Discrete), measured.Plan(GradientMethod.Checkpointed(1)), measured.Plan(GradientMethod.StoreAll) }
            .Where(plan => plan is not null).DistinctBy(plan => plan!.Method.Name).Select(plan => Row(plan!, spec.Model))
            .Concat(new[] { chosen.Way is { } way && way != spec.Model ? Row(chosen.Plan!, way) : null, again is null ? null : Row(again, ways[0]) }.OfType<MethodMemory>().DistinctBy(row => row.Method));
        long trained = model.Initial().Length / sizeof(float);
        // Parameters in float32 and, of AdamW, two moments.
        return new ShardMemory(samples, spec.Sample.Steps, weights, trained, trained * sizeof(float) * (spec.Optimizer.Name == OptimizerName.AdamW ? 3 : 1), [.. rows]);

        MethodMemory Row(MemoryPlan plan, ModelSpec way) => new(plan.Method.Name + Added(way), plan.PeakBytes, plan.States, plan.NetworkGraphs, plan.LossGraph, plan.InputGradients, plan.Evaluations + (way.Checkpointing == true ? products : 0))
        {
            IsConfigured = way == spec.Model && plan.Method.Name == own.Method.Name,
            IsChosen = way == chosen.Way && plan.Method.Name == chosen.Plan?.Method.Name,
            Settings = way == chosen.Way && plan.Method.Name == chosen.Plan?.Method.Name || way != spec.Model ? SettingsOf(plan, way) : null,
        };
    }

    /// <summary>A spec's model with more and more that saves memory, from what costs least.</summary>
    private static IEnumerable<ModelSpec> Ways(ModelSpec own, SampledModel model, int samples)
    {
        var way = own with { Checkpointing = true };
        yield return way;
        if (model is not TextModel text)
            yield break;
        if (samples > 1)
            yield return way = way with { DecoderSlices = true };
        if (own.DecoderTiles is null && text.TileSide is { } side)
            yield return way = way with { DecoderTiles = side };
        if (own.FusedAttention != true)
            yield return way with { FusedAttention = true };
    }

    private static string Added(ModelSpec way) => string.Concat(new[]
    {
        way.Checkpointing == true ? " + checkpointing" : null, way.DecoderSlices == true ? " + slices" : null,
        way.DecoderTiles is { } side ? FormattableString.Invariant($" + tiles {side}") : null, way.FusedAttention == true ? " + fused attention" : null,
    });

    private static string SettingsOf(MemoryPlan plan, ModelSpec way) => string.Join('\n', new[]
    {
        $"gradient.method: {plan.Method.Name.Split('(')[0]}",
        // checkpointed(n)
        plan.Method.Name.Split('(', ')') is [_, var slots, _] ? $"gradient.slots: {slots}" : null,
        way.Checkpointing == true ? "model.checkpointing: true" : null, way.DecoderSlices == true ? "model.decoderSlices: true" : null,
        way.DecoderTiles is { } side ? FormattableString.Invariant($"model.decoderTiles: {side}") : null, way.FusedAttention == true ? "model.fusedAttention: true" : null,
    }.Where(line => line is not null));

    private static (MemoryPlan? Plan, ModelSpec? Way) Chosen(MemoryModel measured, List<ModelSpec> ways, Func<ModelSpec, MemoryModel> again, ModelSpec own, long budget)
    {
        InsufficientMemoryException? least;
        try
        {
            return (measured.Choose(budget), own);
        }
        catch (InsufficientMemoryException e)
        {
            least = e;
        }

        foreach (var way in ways)
        {
            try
            {
                return (again(way).Choose(budget), way);
            }
            catch (InsufficientMemoryException e)
            {
                least = e;
            }
        }

        throw least;
    }
}
