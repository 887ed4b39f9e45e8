using System.Text;
using System.Text.Json;
using AdjointDpm.Models;
using AdjointDpm.Models.Unet;
using AdjointDpm.Models.Vae;
using AdjointDpm.Tests.Formats;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

/// <summary>Configurations that no released model has, or that the other references leave out, against outputs and gradients of diffusers' own code: <c>Reference/diffusers/networks.py</c>.</summary>
public sealed class DiffusersNetworkTests
{
    // diffusers computes some softmaxes in float32 whatever the dtype.
    private const double Tolerance = 3e-6;

    public static TheoryData<string> Cases() => [.. Read().Keys];

    [Theory]
    [MemberData(nameof(Cases))]
    public void Network_Configuration_OutputAndEveryGradientAreDiffusers(string name)
    {
        using var scope = NewDisposeScope();
        var expected = Read()[name];
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder["config.json"], expected.GetProperty("config").GetString());
        Dictionary<string, Tensor> leaves = [];
        Tensor Leaf(string input, params long[] shape)
        {
            using Scalar spread = 1.7;
            return leaves[input] = Numbers("input." + input, shape).mul(spread).requires_grad_();
        }

        var times = tensor(new[] { 31.0, 907 });
        var (network, output) = ((nn.Module, Tensor))(expected.GetProperty("class").GetString() switch
        {
            nameof(UNet2DConditionModel) => Conditional(Filled(new UNet2DConditionModel(UNet2DConditionConfig.Read(folder["config.json"])))),
            nameof(UNet2DModel) => Unconditional(Filled(new UNet2DModel(UNet2DConfig.Read(folder["config.json"])))),
            _ => Autoencoder(Filled(new AutoencoderKL(AutoencoderKLConfig.Read(folder["config.json"])))),
        });
        using var owned = network;
        Assert.Equal(expected.GetProperty("shape").EnumerateArray().Select(d => d.GetInt64()), output.shape);
        Close(expected.GetProperty("output"), output, "output");
        output.mul(Numbers("cotangent", output.shape)).sum().backward();
        foreach (var input in expected.GetProperty("inputs").EnumerateObject())
            Close(input.Value, leaves[input.Name].grad!, input.Name);
        var gradients = expected.GetProperty("gradients").EnumerateObject().ToDictionary(g => g.Name, g => g.Value.GetDouble());
        Assert.Equal(gradients.Keys.Order(StringComparer.Ordinal), network.named_parameters().Where(p => p.parameter.grad is not null).Select(p => p.name).Order(StringComparer.Ordinal));
        foreach (var (weight, parameter) in network.named_parameters().Where(p => p.parameter.grad is not null))
        {
            var actual = parameter.grad!.mul(Numbers("cotangent." + weight, parameter.shape)).sum().Number();
            // Biases in front of normalisations, and of keys, have none.
            Assert.True(Math.Abs(actual - gradients[weight]) <= Tolerance * Math.Max(parameter.grad!.norm().Number(), 0.1), $"{weight}: {actual:r}, diffusers {gradients[weight]:r}");
        }

        (nn.Module, Tensor) Conditional(UNet2DConditionModel model)
        {
            var (sample, context) = (Leaf("sample", 2, 4, 6, 7), Leaf("context", 2, 5, 12));
            var added = model.Config.AdditionEmbedType is null ? null : new AddedConditioning(Leaf("text_embeds", 2, 5), tensor(new[] { 64.0, 48, 0, 8, 64, 64, 32, 64, 4, 0, 32, 32 }, [2, 6]));
            var classes = model.Config.ClassEmbedType switch { null => null, "timestep" => tensor(new[] { 250.0, 3 }), _ => Leaf("classes", 2, 5) };
            return (model, model.forward(sample, times, context, added, classes));
        }

        (nn.Module, Tensor) Unconditional(UNet2DModel model)
        {
            var labels = model.Config switch { { ClassEmbedType: not null } => tensor(new[] { 250.0, 3 }), { NumClassEmbeds: not null } => tensor(new[] { 4L, 0 }), _ => null };
            return (model, model.forward(Leaf("sample", 2, 2, 6, 8), times, labels));
        }

        (nn.Module, Tensor) Autoencoder(AutoencoderKL model) => (model, model.Decode(model.Encode(Leaf("sample", 2, 3, 8, 12)).Mean));
    }

    private static Dictionary<string, JsonElement> Read()
    {
        using var file = JsonDocument.Parse(File.ReadAllText(Path.Combine(ReferenceFolder.Of("diffusers"), "networks.json")));
        return file.RootElement.EnumerateObject().ToDictionary(c => c.Name, c => c.Value.Clone());
    }

    private static void Close(JsonElement expected, Tensor actual, string what)
    {
        using var there = tensor(expected.EnumerateArray().Select(v => v.GetDouble()).ToArray());
        var error = (there - actual.flatten()).norm().Number() / there.norm().Number();
        Assert.True(error <= Tolerance, $"{what}: relative error {error:e2}");
    }

    private static T Filled<T>(T network)
        where T : nn.Module
    {
        using var frozen = no_grad();
        network.to(float64);
        network.eval();
        foreach (var (name, parameter) in network.named_parameters())
        {
            var shape = parameter.shape;
            using var spread = (shape.Length > 1 ? Math.Sqrt(3.0 / shape[1..].Aggregate(1L, (a, b) => a * b)) : 0.2).ToScalar();
            using Scalar middle = shape.Length == 1 && name.EndsWith("weight", StringComparison.Ordinal) ? 1.0 : 0.0;
            parameter.copy_(Numbers(name, shape).mul(spread).add(middle));
        }

        return network;
    }

    // numbers() of the script.
    private static Tensor Numbers(string name, long[] shape)
    {
        var seed = Encoding.UTF8.GetBytes(name).Aggregate(2166136261u, (s, b) => unchecked((s ^ b) * 16777619));
        return tensor([.. Enumerable.Range(1, (int)shape.Aggregate(1L, (a, b) => a * b)).Select(k => Math.Sin((12.9898 * k) + (78.233 * seed / 4294967296)) * 43758.5453).Select(u => (2 * (u - Math.Floor(u))) - 1)], shape, dtype: float64);
    }
}
