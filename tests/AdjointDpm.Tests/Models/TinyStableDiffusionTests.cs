using AdjointDpm.Formats;
using AdjointDpm.Models;
using AdjointDpm.Samplers;
using TorchSharp;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

/// <summary>A whole Stable Diffusion folder as diffusers 0.14 writes it. It is not part of the repository: where it is absent the test says so.</summary>
public sealed class TinyStableDiffusionTests(ITestOutputHelper output)
{
    internal static readonly string Fixtures = Path.GetFullPath(Path.Combine(ReferenceFolder.Root(), "..", "shared", "fixtures"));

    [Fact]
    public void Folder_NetworkAndSchedule_AreDiffusers()
    {
        var path = Path.Combine(Fixtures, "tiny-sd");
        if (!Directory.Exists(path))
        {
            output.WriteLine($"There is no diffusers folder beside the repository ({path}), so nothing was compared.");
            Assert.Throws<ModelConfigException>(() => DiffusersFolder.Open(path));
            return;
        }

        using var scope = NewDisposeScope();
        using var golden = SafetensorsFile.Open(Path.Combine(Fixtures, "golden.safetensors"));
        var folder = DiffusersFolder.Open(path);
        Assert.Equal(Prediction.Epsilon, folder.ReadScheduler().Prediction);
        Assert.Equal(1000, folder.ReadScheduler().Schedule().TrainSteps);

        using var unet = folder.LoadUNet2DCondition();
        var (x, context) = (golden.Read("unet.sample").requires_grad_(), golden.Read("unet.encoder_hidden_states").requires_grad_());
        const string Weight = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight";
        var weight = unet.get_parameter(Weight)!;
        var y = unet.call(x, golden.Read("unet.timestep"), context);
        autograd.backward([y], [golden.Read("unet.cotangent")], inputs: [x, context, weight]);
        Close(golden.Read("unet.out"), y);
        Close(golden.Read("unet.vjp_sample"), x.grad!);
        Close(golden.Read("unet.vjp_ctx"), context.grad!);
        Close(golden.Read($"unet.grad.{Weight}"), weight.grad!);
    }

    private static void Close(Tensor expected, Tensor actual)
    {
        var error = (expected - actual).norm().ToDouble() / expected.norm().ToDouble();
        Assert.True(error <= 1e-5, $"relative error {error:e2}");
    }
}
