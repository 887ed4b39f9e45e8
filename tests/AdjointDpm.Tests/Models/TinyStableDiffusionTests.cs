using System.Text.Json;
using AdjointDpm.Formats;
using AdjointDpm.Models;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Samplers;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

/// <summary>A whole Stable Diffusion folder as diffusers 0.14 writes it. It is not part of the repository: where it is absent the test says so.</summary>
public sealed class TinyStableDiffusionTests(ITestOutputHelper output)
{
    internal static readonly string Fixtures = Path.GetFullPath(Path.Combine(ReferenceFolder.Root(), "..", "shared", "fixtures"));
    private static readonly string Folder = Path.Combine(Fixtures, "tiny-sd");

    [Fact]
    public void Folder_NetworkAndSchedule_AreDiffusers()
    {
        if (Absent())
            return;
        using var scope = NewDisposeScope();
        using var golden = SafetensorsFile.Open(Path.Combine(Fixtures, "golden.safetensors"));
        var folder = DiffusersFolder.Open(Folder);
        Assert.Equal(Prediction.Epsilon, folder.ReadScheduler().Prediction);
        Assert.Equal(1000, folder.ReadScheduler().NumTrainTimesteps);

        using var unet = folder.LoadUNet2DCondition();
        var (x, context) = (golden.Read("unet.sample").requires_grad_(), golden.Read("unet.encoder_hidden_states").requires_grad_());
        const string Weight = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight";
        var weight = unet.get_parameter(Weight)!;
        var y = unet.call(x, golden.Read("unet.timestep"), context);
        autograd.backward([y], [golden.Read("unet.cotangent")], inputs: [x, context, weight]);
        Reference.Close(golden.Read("unet.out"), y, "output");
        Reference.Close(golden.Read("unet.vjp_sample"), x.grad!, "sample");
        Reference.Close(golden.Read("unet.vjp_ctx"), context.grad!, "context");
        Reference.Close(golden.Read($"unet.grad.{Weight}"), weight.grad!, Weight);
    }

    [Fact]
    public void Folder_AutoencoderAndText_AreDiffusersAndOpenAis()
    {
        if (Absent())
            return;
        using var scope = NewDisposeScope();
        using var golden = SafetensorsFile.Open(Path.Combine(Fixtures, "golden.safetensors"));
        using var model = StableDiffusionFolder.Open(Folder).Load();
        var latent = golden.Read("vae.latent").requires_grad_();
        var image = model.Autoencoder.Decode(latent);
        Reference.Close(golden.Read("vae.decoded"), image, "decoded");
        autograd.backward([image], [golden.Read("vae.cotangent")], inputs: [latent]);
        Reference.Close(golden.Read("vae.vjp_latent"), latent.grad!, "latent");
        using var frozen = no_grad();
        var encoded = model.Autoencoder.Encode(golden.Read("vae.image"));
        Reference.Close(golden.Read("vae.posterior_mean"), encoded.Mean, "mean");
        Reference.Close(golden.Read("vae.posterior_logvar"), encoded.LogVariance, "log variance");

        var ids = golden.Read("text.input_ids");
        Reference.Close(golden.Read("text.last_hidden_state"), model.TextEncoders[0].call(ids), "text");
        var prompts = JsonDocument.Parse(File.ReadAllText(Path.Combine(Fixtures, "clip_tokenizer_golden.json"))).RootElement.EnumerateArray().Select(c => c.GetProperty("text").GetString()!).ToList();
        var encodedIds = model.Tokenizers[0].EncodePadded(prompts);
        // The golden states are of some of the golden prompts.
        for (var b = 0; b < ids.shape[0]; b++)
            Assert.Contains(Enumerable.Range(0, prompts.Count), p => SameText(encodedIds[p], ids[b], model.Tokenizers[0].End));
    }

    [Fact]
    public void Folder_FromTextToLoss_GradientIsTheUnrolledOneAndEqualEachTime()
    {
        if (Absent())
            return;
        StableDiffusionRuns.TextToLossAndBack(StableDiffusionFolder.Open(Folder), steps: 2);
    }

    private bool Absent()
    {
        if (Directory.Exists(Folder))
            return false;
        output.WriteLine($"There is no diffusers folder beside the repository ({Folder}), so nothing was compared.");
        Assert.Throws<ModelConfigException>(() => StableDiffusionFolder.Open(Folder));
        return true;
    }

    private static bool SameText(Tensor ours, Tensor golden, int end)
    {
        var (a, b) = (ours.data<long>().ToArray(), golden.data<long>().ToArray());
        var length = Array.IndexOf(a, end, 1) + 1;
        return a.AsSpan(0, length).SequenceEqual(b.AsSpan(0, length));
    }
}
