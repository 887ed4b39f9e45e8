using AdjointDpm.Formats;
using AdjointDpm.Models;
using AdjointDpm.Models.Files;
using AdjointDpm.Models.StableDiffusion;
using AdjointDpm.Tests.Formats;
using static TorchSharp.torch;

namespace AdjointDpm.Tests.Models;

/// <summary>Files and folders as people find them: named, converted, read back.</summary>
public sealed class ModelFileTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public static TheoryData<string> Kinds => [.. TinyModels.Kinds];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Model_FromFolderToFileAndBack_IsNamedAndTheSame(string kind)
    {
        using var scope = NewDisposeScope();
        using var model = TinyModels.Make(kind);
        StableDiffusionFolder.Save(_folder["in"], model);
        var name = kind switch { "SD1" => "Stable Diffusion 1", "SD2" => "Stable Diffusion 2", _ => "Stable Diffusion XL" };
        Assert.Contains($"{name} as a single file; read back, all", ModelConversion.Convert(_folder["in"], _folder["a.safetensors"], new(Dtype: ScalarType.Float16)), StringComparison.Ordinal);
        Assert.Contains($"{name} as a diffusers folder", ModelConversion.Convert(_folder["a.safetensors"], _folder["out"], new(Model: _folder["in"])), StringComparison.Ordinal);
        using var again = StableDiffusionFolder.Open(_folder["out"]).Load();
        foreach (var (a, b) in StableDiffusionFolderTests.Networks(model).Zip(StableDiffusionFolderTests.Networks(again)))
            TinyModels.AllWeights(a, b, (x, y) => x.to(float16).to(float32).Equals(y));

        var file = ModelFile.Inspect(_folder["a.safetensors"]);
        Assert.Equal(("single-file checkpoint", name, kind == "SD2" ? "v_prediction" : "epsilon"), (file.Kind, Fact(file, "model"), Fact(file, "prediction")));
        Assert.Equal($"F16 × {file.Tensors.Count}", Fact(file, "dtypes"));
        Assert.Equal("a", file.Metadata["modelspec.title"]);
        var folder = ModelFile.Inspect(_folder["out"]);
        Assert.Equal(("diffusers folder", name, kind == "SD2" ? "v_prediction" : "epsilon"), (folder.Kind, Fact(folder, "model"), Fact(folder, "prediction")));
        Assert.Contains("parameters", Fact(folder, kind == "SDXL" ? "text_encoder_2" : "text_encoder"), StringComparison.Ordinal);
        Assert.Contains("--model", Assert.Throws<SafetensorsException>(() => ModelConversion.Convert(_folder["a.safetensors"], _folder["other"])).Message, StringComparison.Ordinal);
        Assert.Contains("over itself", Assert.Throws<ArgumentException>(() => ModelConversion.Convert(_folder["in"], _folder["in"])).Message, StringComparison.Ordinal);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Lora_ToTheOtherDialectAndBack_HasTheSameBytesOfData(string kind)
    {
        using var scope = NewDisposeScope();
        using var model = TinyModels.Make(kind);
        StableDiffusionFolder.Save(_folder["model"], model);
        using (var lora = new Lora(model.Unet, n => n.Contains("attn2", StringComparison.Ordinal), 2, 6))
        {
            using var weights = LoraWeights.Of(lora);
            weights.Write(_folder["a.safetensors"], LoraDialect.Diffusers, model);
        }

        Assert.Contains("as kohya; read back", ModelConversion.Convert(_folder["a.safetensors"], _folder["b.safetensors"], new(_folder["model"])), StringComparison.Ordinal);
        Assert.Contains("as diffusers; read back", ModelConversion.Convert(_folder["b.safetensors"], _folder["c.safetensors"], new(_folder["model"])), StringComparison.Ordinal);
        using (var a = SafetensorsFile.Open(_folder["a.safetensors"]))
        using (var c = SafetensorsFile.Open(_folder["c.safetensors"]))
        {
            Assert.Equal(a.Names, c.Names);
            Assert.All(a.Names, n => Assert.True(a.Read(n).Equals(c.Read(n)), n));
        }

        var report = ModelFile.Inspect(_folder["b.safetensors"]);
        Assert.Equal(("LoRA", "kohya", "2", "6"), (report.Kind, Fact(report, "dialect"), Fact(report, "rank"), Fact(report, "alpha")));
        Assert.Contains("not as 'lycoris'", Assert.Throws<ArgumentException>(() => ModelConversion.Convert(_folder["a.safetensors"], _folder["d.safetensors"], new(_folder["model"], "lycoris"))).Message, StringComparison.Ordinal);
        Assert.Contains("must end in .safetensors", Assert.Throws<ArgumentException>(() => ModelConversion.Convert(_folder["a.safetensors"], _folder["d"], new(_folder["model"]))).Message, StringComparison.Ordinal);
    }

    /// <summary>What people point at by mistake.</summary>
    [Fact]
    public void Inspect_FoldersAndPicturesOfOtherKinds_NamesWhatTheyAre()
    {
        using var folder = new TemporaryFolder();
        Directory.CreateDirectory(folder["other"]);
        File.WriteAllText(folder["other/model_index.json"], """{"_class_name": "KandinskyPipeline"}""");
        Assert.Contains("is a pipeline of class KandinskyPipeline", Assert.Throws<ModelConfigException>(() => ModelFile.Inspect(folder["other"])).Message, StringComparison.Ordinal);
        File.WriteAllText(folder["other/model_index.json"], "{bad");
        Assert.Contains("model_index.json", Assert.Throws<ModelConfigException>(() => ModelFile.Inspect(folder["other"])).Message, StringComparison.Ordinal);
        File.WriteAllText(folder["x.png"], "no picture");
        Assert.Contains("x.png: is no PNG picture", Assert.Throws<InvalidDataException>(() => ModelFile.Inspect(folder["x.png"])).Message, StringComparison.Ordinal);
        File.WriteAllText(folder["e.png"], "");
        Assert.Contains("e.png: the file is empty", Assert.Throws<InvalidDataException>(() => ModelFile.Inspect(folder["e.png"])).Message, StringComparison.Ordinal);
        Assert.Contains("is a file, not a diffusers folder", Assert.Throws<ModelConfigException>(() => StableDiffusionFolder.Open(folder["x.png"])).Message, StringComparison.Ordinal);
    }

    /// <summary>Full-size names and shapes, whose data are holes on the disk.</summary>
    [Fact]
    public void Lora_OfFullSize_IsToldFromItsTensors()
    {
        SparseFile.Write(_folder["lora.safetensors"], SparseFile.Names("sd1.lora"));
        var report = ModelFile.Inspect(_folder["lora.safetensors"]);
        Assert.Equal(("LoRA", "kohya", "Stable Diffusion 1", "264", "4", "792"), (report.Kind, Fact(report, "dialect"), Fact(report, "model"), Fact(report, "layers"), Fact(report, "rank"), Fact(report, "tensors")));
    }

    [Fact]
    public void Word_IsNamedAndConverted()
    {
        using var vectors = randn(2, 768);
        SafetensorsWriter.Write(_folder["fox.safetensors"], new Dictionary<string, Tensor> { ["<fox>"] = vectors });
        Assert.Equal(("textual inversion", "2", "768"), (ModelFile.Inspect(_folder["fox.safetensors"]).Kind, Fact(ModelFile.Inspect(_folder["fox.safetensors"]), "vectors"), Fact(ModelFile.Inspect(_folder["fox.safetensors"]), "width")));
        Assert.Contains("2 vectors", ModelConversion.Convert(_folder["fox.safetensors"], _folder["web.safetensors"]), StringComparison.Ordinal);
        using var web = SafetensorsFile.Open(_folder["web.safetensors"]);
        Assert.Equal(["emb_params"], web.Names);
    }

    [Fact]
    public void Picture_KeepsItsTexts_InLatinAndInOthers()
    {
        using var image = linspace(-1.2, 1.2, 3 * 4 * 5).reshape(3, 4, 5);
        var parameters = Picture.Parameters("a red square", "blurry", [new("Steps", "20"), new("Sampler", "DDIM"), new("Note", "a, b")]);
        Picture.Write(_folder["a.png"], image, [parameters, new("adjointdpm", "{\"prompt\":\"ключ\"}")]);
        var report = ModelFile.Inspect(_folder["a.png"]);
        Assert.Equal("a red square\nNegative prompt: blurry\nSteps: 20, Sampler: DDIM, Note: \"a, b\"", report.Metadata["parameters"]);
        Assert.Equal("{\"prompt\":\"ключ\"}", report.Metadata["adjointdpm"]);
        Assert.Equal(("a red square", "blurry", "20", "a, b"), (Fact(report, "prompt"), Fact(report, "negative"), Fact(report, "Steps"), Fact(report, "Note")));
        using var bitmap = SkiaSharp.SKBitmap.Decode(_folder["a.png"]);
        Assert.Equal((5, 4, (byte)0, (byte)255), (bitmap.Width, bitmap.Height, bitmap.GetPixel(0, 0).Red, bitmap.GetPixel(4, 3).Blue));
        File.WriteAllBytes(_folder["cut.png"], File.ReadAllBytes(_folder["a.png"])[..60]);
        Assert.Contains("cut short", Assert.Throws<InvalidDataException>(() => ModelFile.Inspect(_folder["cut.png"])).Message, StringComparison.Ordinal);
        Assert.Contains("is no image", Assert.Throws<ArgumentException>(() => Picture.Write(_folder["b.png"], image[0])).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("a cat\nin a hat\nNegative prompt: blurry,\nlow quality\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 965400086, Size: 512x512, Model hash: 45dee52b", "a cat\nin a hat|blurry,\nlow quality|20|Euler a|7|965400086|512x512|45dee52b")]
    [InlineData("a cat\nSteps: 20, Seed: 1", "a cat\nSteps: 20, Seed: 1")]
    [InlineData("a cat\nSteps: 20, Seed: 1, Lora hashes: \"fox: 12, owl: 34\", Version: v1.6.0", "a cat|20|1|fox: 12, owl: 34|v1.6.0")]
    [InlineData("", "")]
    public void Parameters_OfInterfaces_AreReadAsTheyReadThem(string text, string expected) =>
        Assert.Equal(expected.Split('|'), Picture.ReadParameters(text).Select(p => p.Value));

    [Fact]
    public void List_FindsModels_HoweverTheyAreSorted()
    {
        using var scope = NewDisposeScope();
        using var model = TinyModels.Make("SD1");
        StableDiffusionFolder.Save(_folder["hub/sd"], model);
        using (var lora = new Lora(model.Unet, n => n.Contains("attn2", StringComparison.Ordinal), 2, 6))
        {
            using var weights = LoraWeights.Of(lora);
            weights.Write(_folder["hub/Lora/style/a.safetensors"], LoraDialect.Kohya, model);
        }

        File.WriteAllText(_folder["hub/Lora/style/cut.safetensors"], "{}");
        Directory.CreateDirectory(_folder["hub/bert"]);
        File.WriteAllText(_folder["hub/bert/config.json"], "{\"architectures\": [\"BertModel\"]}");
        Directory.CreateDirectory(_folder["hub/flux"]);
        File.WriteAllText(_folder["hub/flux/model_index.json"], "{\"_class_name\": \"FluxPipeline\"}");
        var found = ModelList.In(_folder["hub"]);
        Assert.Equal(["Lora/style/a.safetensors", "Lora/style/cut.safetensors", "bert", "flux", "sd"], found.Select(m => Path.GetRelativePath(_folder["hub"], m.Path)));
        Assert.Equal(["LoRA", "unreadable", "other", "diffusers folder of another kind", "diffusers folder"], found.Select(m => m.Kind));
        Assert.Equal(["float32"], found[0].Precision);
        Assert.Equal(new FileInfo(found[0].Path).Length, found[0].Bytes);
        Assert.Contains("cut.safetensors", found[1].Problem, StringComparison.Ordinal);
        Assert.Equal(("BertModel", "FluxPipeline", "Stable Diffusion 1"), (found[2].Model, found[3].Model, found[4].Model));
        Assert.Equal(["float32"], found[4].Precision);
        Assert.True(found[4].Bytes > 4 * model.Unet.parameters().Sum(p => p.numel()));
        Assert.Empty(ModelList.In(_folder["none"]));
    }

    [Fact]
    public void List_OfFoldersWithLinksBackAndFoldersThatMayNotBeRead_StillNamesAll()
    {
        foreach (var name in new[] { "a", "b" })
        {
            Directory.CreateDirectory(_folder[$"hub/{name}/unet"]);
            File.WriteAllText(_folder[$"hub/{name}/config.json"], "{\"architectures\": [\"BertModel\"]}");
            File.WriteAllBytes(_folder[$"hub/{name}/unet/some.bin"], new byte[100]);
        }

        Directory.CreateSymbolicLink(_folder["hub/a/unet/up"], _folder["hub/a"]);
        Directory.CreateSymbolicLink(_folder["hub/a/nowhere"], _folder["gone"]);
        if (!OperatingSystem.IsWindows())
            File.SetUnixFileMode(_folder["hub/b/unet"], UnixFileMode.None);
        try
        {
            var found = ModelList.In(_folder["hub"]);
            var config = new FileInfo(_folder["hub/a/config.json"]).Length;
            // An administrator may read everything.
            var all = Environment.IsPrivilegedProcess || OperatingSystem.IsWindows();
            Assert.Equal([config + 100, all ? config + 100 : config], found.Select(m => m.Bytes));
            Assert.Null(found[0].Problem);
            Assert.Equal(all, found[1].Problem is null);
        }
        finally
        {
            if (!OperatingSystem.IsWindows())
                File.SetUnixFileMode(_folder["hub/b/unet"], UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }
    }

    [Fact]
    public void Inspect_OtherFiles_AreNamedToo()
    {
        using var scope = NewDisposeScope();
        SafetensorsWriter.Write(_folder["a"], new Dictionary<string, Tensor> { ["model.diffusion_model.joint_blocks.0.a"] = ones(1) });
        Assert.Contains("Stable Diffusion 3", Fact(ModelFile.Inspect(_folder["a"]), "because"), StringComparison.Ordinal);
        SafetensorsWriter.Write(_folder["a"], new Dictionary<string, Tensor> { ["conv.weight"] = ones(2, 3) });
        Assert.Equal(("weights", "6"), (ModelFile.Inspect(_folder["a"]).Kind, Fact(ModelFile.Inspect(_folder["a"]), "parameters")));
        SafetensorsWriter.Write(_folder["a"], new Dictionary<string, Tensor> { ["prompt_embeds"] = ones(2, 3, 4) });
        Assert.Equal("prompt embeddings", ModelFile.Inspect(_folder["a"]).Kind);
        Assert.Equal("UNet2DModel", Fact(ModelFile.Inspect(Path.Combine(ReferenceFolder.Root(), "examples", "models", "digits8-dpm")), "network"));
        Assert.Throws<SafetensorsException>(() => ModelFile.Inspect(_folder["none"]));
        Assert.Throws<ModelConfigException>(() => ModelFile.Inspect(_folder.Path));
    }

    private static string Fact(ModelFileReport report, string name) => report.Facts.First(f => f.Key == name).Value;
}
