using System.Runtime.InteropServices;
using AdjointDpm.Grains.Specs;
using AdjointDpm.Grains.Trials;
using AdjointDpm.Native;
using static TorchSharp.torch;

namespace AdjointDpm.Grains.Tests.Trials;

public sealed class OptimizerTests
{
    [Fact]
    public void AdamW_FollowsTorch()
    {
        NativeTorch.EnsureLoaded();
        using var scope = NewDisposeScope();
        using var generator = new Generator(5);
        var parameter = new TorchSharp.Modules.Parameter(randn([50], generator: generator));
        using var reference = optim.AdamW([parameter], lr: 1e-2, beta1: 0.8, beta2: 0.95, eps: 1e-8, weight_decay: 0.1);
        var mine = parameter.data<float>().ToArray();
        var state = new float[100];
        var optimizer = new AdamWOptimizer(1e-2, 0.8, 0.95, 1e-8, 0.1);
        for (var step = 1; step <= 20; step++)
        {
            var gradient = randn([50], generator: generator);
            parameter.grad = gradient;
            reference.step();
            optimizer.Step(step, mine, gradient.data<float>().ToArray(), state);
            var theirs = parameter.data<float>().ToArray();
            for (var i = 0; i < 50; i++)
                Assert.Equal(theirs[i], mine[i], 2e-6f);
        }
    }

    /// <summary>Ranges of any length give the bits of the whole, so several numbers at once must give those of one.</summary>
    [Fact]
    public void AdamW_OnAllNumbers_GivesTheBitsOfOneAtATime()
    {
        const int N = 1003;
        var random = new Random(3);
        float[] Draw() => [.. Enumerable.Range(0, N).Select(_ => (float)((random.NextDouble() - 0.5) * Math.Pow(10, random.Next(-20, 5))))];
        var optimizer = new AdamWOptimizer(1e-2, 0.8, 0.95, 1e-8, 0.1);
        var (parameters, state) = (Draw(), new float[2 * N]);
        var ones = parameters.Select((p, i) => (Parameter: new[] { p }, State: new float[2])).ToArray();
        for (var step = 1; step <= 5; step++)
        {
            var gradient = Draw();
            for (var i = 0; i < N; i++)
                optimizer.Step(step, ones[i].Parameter, new[] { gradient[i] }, ones[i].State);
            optimizer.Step(step, parameters, gradient, state);
        }
        Assert.Equal(ones.Select(one => BitConverter.SingleToUInt32Bits(one.Parameter[0])), parameters.Select(BitConverter.SingleToUInt32Bits));
        Assert.Equal(ones.Select(one => one.State[0]).Concat(ones.Select(one => one.State[1])), state);
    }

    [Theory]
    [InlineData(32, 64)]
    [InlineData(31, 63)]
    public void Step_InMemoryThatWasUsedBefore_GivesTheSameBits_AndChangesNothingElse(int spareParameters, int spareState)
    {
        var spec = new ExperimentSpec { Model = new() { Path = "/m" }, Losses = [], Optimizer = new() { Name = OptimizerName.AdamW } };
        var random = new Random(1);
        var (before, state, spare) = (Floats(8), Floats(16), new SpareMemory(new byte[spareParameters], new byte[spareState]));
        random.NextBytes(spare.Parameters!);
        random.NextBytes(spare.Optimizer!);
        var (copyBefore, copyState) = (before.ToArray(), state.ToArray());
        var gradient = MemoryMarshal.Cast<byte, float>(Floats(8)).ToArray();
        var fresh = StepUpdate.Stepped([.. gradient], 1, 2, spec, before, state);
        var again = StepUpdate.Stepped([.. gradient], 1, 2, spec, before, state, spare);
        Assert.Equal(fresh.Parameters, again.Parameters);
        Assert.Equal(fresh.Optimizer, again.Optimizer);
        Assert.Equal(spareParameters == before.Length, ReferenceEquals(spare.Parameters, again.Parameters));
        Assert.Equal(spareState == state.Length, ReferenceEquals(spare.Optimizer, again.Optimizer));
        Assert.Equal(copyBefore, before);
        Assert.Equal(copyState, state);

        byte[] Floats(int count) => MemoryMarshal.AsBytes(Enumerable.Range(0, count).Select(_ => random.NextSingle()).ToArray().AsSpan()).ToArray();
    }

    [Fact]
    public void AdamW_FirstStep_MovesByTheLearningRate()
    {
        float[] parameters = [1, 1];
        new AdamWOptimizer(0.1, 0.9, 0.999, 0, 0).Step(1, parameters, [3, -0.001f], new float[4]);
        Assert.Equal(0.9f, parameters[0], 1e-6f);
        Assert.Equal(1.1f, parameters[1], 1e-6f);
    }

    [Fact]
    public void Sgd_FollowsTheClosedForm()
    {
        float[] parameters = [2];
        new SgdOptimizer(0.5, 0.1).Step(1, parameters, [3], []);
        Assert.Equal(2 * (1 - 0.05f) - 1.5f, parameters[0], 1e-6f);
    }

    [Fact]
    public void Clip_ShortensOnlyWhatIsLonger()
    {
        float[] gradient = [3, 4];
        Assert.Equal(5, GradientNorm.L2(gradient));
        GradientNorm.Clip(gradient, 5, 10);
        Assert.Equal([3f, 4f], gradient);
        GradientNorm.Clip(gradient, 5, 1);
        Assert.Equal(1, GradientNorm.L2(gradient), 1e-6);
    }
}
