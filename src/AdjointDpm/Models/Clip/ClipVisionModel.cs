using AdjointDpm.Formats;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace AdjointDpm.Models.Clip;

/// <summary>transformers' <c>CLIPVisionModelWithProjection</c>: pictures as vectors in the space of CLIP's texts. What CLIP score, aesthetic and preference rewards are made of.</summary>
/// <remarks>Parameter names are transformers' own, their misspelling included. Radford et al. (2021). Differentiable in the picture and in its parameters.</remarks>
public sealed class ClipVisionModel : nn.Module<Tensor, Tensor>
{
    // Of the pictures that CLIP was trained on; OpenCLIP's are the same.
    private static readonly float[] Mean = [0.48145466f, 0.4578275f, 0.40821073f], Deviation = [0.26862954f, 0.26130258f, 0.27577711f];

    private const string OpenClipFile = "open_clip_model.safetensors";

    private readonly VisionTransformer vision_model;
    private readonly Linear visual_projection;

    /// <summary>Builds the network with random weights from libtorch's generator.</summary>
    /// <exception cref="ModelConfigException">The configuration contradicts itself or names an activation that is not supported.</exception>
    public ClipVisionModel(ClipVisionConfig config)
        : base(nameof(ClipVisionModel))
    {
        Config = config;
        vision_model = new VisionTransformer(config);
        visual_projection = Layers.Linear(config.HiddenSize, config.ProjectionDim, hasBias: false);
        RegisterComponents();
    }

    /// <summary>What the network was built from.</summary>
    public ClipVisionConfig Config { get; }

    /// <summary>Loads a folder's <c>config.json</c> and <c>model.safetensors</c>, or <c>open_clip_model.safetensors</c> under OpenCLIP's names where that alone is there, in float32 on the CPU, without gradients of its own. Tensors of CLIP's text part are passed over.</summary>
    /// <exception cref="ModelConfigException">The configuration is missing, malformed or for another model.</exception>
    /// <exception cref="SafetensorsException">The weights are missing or do not fit. Nothing stays loaded.</exception>
    public static ClipVisionModel Load(string folder)
    {
        var config = ClipVisionConfig.Read(Path.Combine(folder, "config.json"));
        var open = Path.Combine(folder, OpenClipFile);
        if (File.Exists(open) && !Directory.EnumerateFiles(folder, "model*.safetensors*").Any())
            return LoadOpenClip(open, config);
        return ClipNames.Tower(folder, () => new ClipVisionModel(config), other: "text");
    }

    /// <summary>Loads the vision tower of a file under OpenCLIP's names, such as H/14's or bigG/14's, in float32 on the CPU, without gradients of its own.</summary>
    /// <param name="path">The file, of a whole model or its <c>visual.</c> part; queries, keys and values may be one projection, as they are there.</param>
    /// <param name="config">What the tower is built from; OpenCLIP's files do not say.</param>
    /// <exception cref="ModelConfigException">The configuration contradicts itself.</exception>
    /// <exception cref="SafetensorsException">The weights are missing or do not fit. Nothing stays loaded.</exception>
    public static ClipVisionModel LoadOpenClip(string path, ClipVisionConfig config)
    {
        using var file = WeightFiles.Open(path);
        var model = Layers.Blank(ScalarType.Float32, () => new ClipVisionModel(config));
        try
        {
            var map = new WeightMap(model, OpenClipVisionNames.Of);
            map.Check(file, OpenClipVisionNames.Prefix, _ => false);
            map.Fill(file);
            return Layers.Constant(model);
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    /// <summary>Embeddings [B, projection_dim] of pictures [B, C, image_size, image_size] that were prepared by <see cref="Prepare"/>; not of unit length.</summary>
    /// <exception cref="ArgumentException">The pictures are of another size.</exception>
    public override Tensor forward(Tensor pixels)
    {
        CheckSize(pixels);
        using var scope = NewDisposeScope();
        return visual_projection.call(vision_model.call(pixels)).MoveToOuterDisposeScope();
    }

    /// <summary>States [B, patches + 1, width] after some of the layers, the class state first, not normalised: transformers' <c>hidden_states[layers]</c>. Later layers are not computed.</summary>
    /// <param name="pixels">Prepared pictures.</param>
    /// <param name="layers">After how many layers; 0 for the embeddings of the patches.</param>
    /// <exception cref="ArgumentException">The pictures are of another size, or there are not so many layers.</exception>
    public Tensor States(Tensor pixels, int layers)
    {
        CheckSize(pixels);
        if (layers < 0 || layers > Config.NumHiddenLayers)
            throw new ArgumentException($"The network has {Config.NumHiddenLayers} layers, not {layers}.", nameof(layers));
        using var scope = NewDisposeScope();
        return vision_model.States(pixels, layers).MoveToOuterDisposeScope();
    }

    /// <summary>Pictures as the network wants them: resized, from [-1, 1] to [0, 1], and normalised channel by channel. Differentiable; values beyond are not cut off, since a cut would stop their gradient.</summary>
    /// <param name="images">[B, 3, H, W], near [-1, 1].</param>
    /// <returns>[B, 3, image_size, image_size] in the network's dtype, bilinear without antialiasing, the whole picture whatever its sides.</returns>
    public Tensor Prepare(Tensor images)
    {
        using var scope = NewDisposeScope();
        var dtype = visual_projection.weight!.dtype;
        long side = Config.ImageSize;
        var sized = images.shape[2] == side && images.shape[3] == side ? images : nn.functional.interpolate(images, size: [side, side], mode: InterpolationMode.Bilinear, align_corners: false);
        // (x / 2 + 1 / 2 - mean) / deviation, in one product and one sum.
        var (scale, shift) = (Row([.. Deviation.Select(d => 0.5f / d)]), Row([.. Mean.Zip(Deviation, (m, d) => (0.5f - m) / d)]));
        return sized.mul(scale).Plus(shift).to(dtype).MoveToOuterDisposeScope();

        Tensor Row(float[] values) => tensor(values, [1, 3, 1, 1], dtype: images.dtype, device: images.device);
    }

    private void CheckSize(Tensor pixels)
    {
        if (pixels.dim() != 4 || pixels.shape[1] != Config.NumChannels || pixels.shape[2] != Config.ImageSize || pixels.shape[3] != Config.ImageSize)
            throw new ArgumentException($"Pictures are [B, {Config.NumChannels}, {Config.ImageSize}, {Config.ImageSize}], but these are [{string.Join(", ", pixels.shape)}]. Prepare them.", nameof(pixels));
    }
}

/// <summary>transformers' <c>CLIPVisionTransformer</c>: patches, a class state before them, layers; the class state's end, normalised. [B, C, H, W] to [B, width].</summary>
internal sealed class VisionTransformer : nn.Module<Tensor, Tensor>
{
    private readonly VisionEmbeddings embeddings;
    private readonly LayerNorm pre_layrnorm;
    private readonly ClipEncoder encoder;
    private readonly LayerNorm post_layernorm;

    public VisionTransformer(ClipVisionConfig config)
        : base(nameof(VisionTransformer))
    {
        embeddings = new VisionEmbeddings(config);
        pre_layrnorm = nn.LayerNorm(config.HiddenSize, config.LayerNormEps);
        encoder = new ClipEncoder(LayerShape.Of(config), config.NumHiddenLayers);
        post_layernorm = nn.LayerNorm(config.HiddenSize, config.LayerNormEps);
        RegisterComponents();
    }

    public override Tensor forward(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var last = encoder.Run(pre_layrnorm.call(embeddings.call(pixels)))[^1];
        return post_layernorm.call(last.select(1, 0)).MoveToOuterDisposeScope();
    }

    public Tensor States(Tensor pixels, int layers) => encoder.Run(pre_layrnorm.call(embeddings.call(pixels)), layers)[^1];
}

/// <summary>transformers' <c>CLIPVisionEmbeddings</c>: [B, C, H, W] to [B, patches + 1, width].</summary>
internal sealed class VisionEmbeddings : nn.Module<Tensor, Tensor>
{
    private readonly Parameter class_embedding;
    private readonly Conv2d patch_embedding;
    private readonly Embedding position_embedding;

    public VisionEmbeddings(ClipVisionConfig config)
        : base(nameof(VisionEmbeddings))
    {
        if (config.PatchSize < 1 || config.ImageSize % config.PatchSize != 0)
            throw new ModelConfigException($"patch_size {config.PatchSize} does not divide image_size {config.ImageSize}.");
        long side = config.ImageSize / config.PatchSize;
        class_embedding = nn.Parameter(randn(config.HiddenSize));
        patch_embedding = Layers.Conv2d(config.NumChannels, config.HiddenSize, config.PatchSize, stride: config.PatchSize, bias: false);
        position_embedding = Layers.Embedding((side * side) + 1, config.HiddenSize);
        RegisterComponents();
    }

    public override Tensor forward(Tensor pixels)
    {
        using var scope = NewDisposeScope();
        var patches = patch_embedding.call(pixels).flatten(2).transpose(1, 2);
        var first = class_embedding.expand(patches.shape[0], 1, -1);
        return cat([first, patches], 1).Plus(position_embedding.weight!).MoveToOuterDisposeScope();
    }
}
