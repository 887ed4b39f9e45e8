using AdjointDpm.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

public sealed class LoraTests
{
    [Fact]
    public void New_ChangesNothing_AndDisposePutsTheWeightsBack()
    {
        using var scope = NewDisposeScope();
        using var network = Network();
        var x = randn([2, 3, 4, 4], ScalarType.Float64, generator: new Generator(1));
        using var frozen = no_grad();
        var before = network.call(x);
        var weight = network.parameters().First().clone();
        using (var lora = new Lora(network, _ => true, 2, 4, seed: 7))
        {
            lora.Fold();
            Assert.True(before.equal(network.call(x)).all().IsTrue());
            foreach (var (_, value) in lora.Parameters)
                value.copy_(randn(value.shape, ScalarType.Float64, generator: new Generator(3)));
            lora.Fold();
            Assert.False(before.allclose(network.call(x)));
        }
        Assert.True(weight.equal(network.parameters().First()).all().IsTrue());
    }

    [Fact]
    public void EqualSeeds_GiveEqualAdapters()
    {
        using var scope = NewDisposeScope();
        using var network = Network();
        using var one = new Lora(network, _ => true, 2, seed: 7);
        using var two = new Lora(network, name => name.StartsWith('0'), 2, seed: 7);
        using var three = new Lora(network, _ => true, 2, seed: 8);
        Assert.True(one.Parameters[0].Value.equal(two.Parameters[0].Value).all().IsTrue());
        Assert.False(one.Parameters[0].Value.allclose(three.Parameters[0].Value));
        Assert.Equal(["0.lora_A.weight", "0.lora_B.weight", "2.lora_A.weight", "2.lora_B.weight"], one.Parameters.Select(p => p.Name));
        Assert.Equal([2L, 3, 3, 3], one.Parameters[0].Value.shape);
        Assert.Equal([5L, 2, 1, 1], one.Parameters[1].Value.shape);
    }

    [Fact]
    public void Gradients_MatchFiniteDifferences()
    {
        using var scope = NewDisposeScope();
        using var network = Network();
        using var lora = new Lora(network, _ => true, 2, 3, seed: 5);
        using (no_grad())
        {
            foreach (var (_, value) in lora.Parameters)
                value.copy_(randn(value.shape, ScalarType.Float64, generator: new Generator(11)));
        }
        lora.Fold();
        var x = randn([2, 3, 4, 4], ScalarType.Float64, generator: new Generator(1));
        foreach (var parameter in network.parameters())
            parameter.requires_grad = true;
        autograd.backward([Loss(network, x)]);
        var gradients = lora.Gradients([.. lora.Weights.Select(weight => weight.grad!)]);

        const double H = 1e-6;
        using var frozen = no_grad();
        for (var i = 0; i < lora.Parameters.Count; i++)
        {
            var value = lora.Parameters[i].Value.flatten();
            var expected = (Shifted(value, H) - Shifted(value, -H)) / (2 * H);
            Assert.Equal(1, gradients[i].flatten()[1].Number() / expected, 1e-6);
        }

        double Shifted(Tensor flat, double by)
        {
            var old = flat[1].Number();
            flat[1] = tensor(old + by, ScalarType.Float64);
            lora.Fold();
            var loss = Loss(network, x).Number();
            flat[1] = tensor(old, ScalarType.Float64);
            return loss;
        }
    }

    [Fact]
    public void NothingMatches_SaysSo()
    {
        using var network = Network();
        var error = Assert.Throws<ArgumentException>(() => new Lora(network, name => name.Contains("attention", StringComparison.Ordinal), 2));
        Assert.Contains("widen the patterns", error.Message, StringComparison.Ordinal);
    }

    private static Tensor Loss(nn.Module<Tensor, Tensor> network, Tensor x) => network.call(x).Squared().sum();

    private static nn.Module<Tensor, Tensor> Network()
    {
        random.manual_seed(17);
        return nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(20, 4)).to(ScalarType.Float64);
    }
}
