using AdjointDpm.Client.Tests.Specs;
using AdjointDpm.Grains.Models;

namespace AdjointDpm.Client.Tests.Models;

public sealed class HuggingFaceCacheTests : IDisposable
{
    private const string One = "0123456789abcdef0123456789abcdef01234567", Two = "fedcba9876543210fedcba9876543210fedcba98";

    private readonly string _folder = Directory.CreateTempSubdirectory("adpm-hub-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("HF_HUB_CACHE=/a;HF_HOME=/b;XDG_CACHE_HOME=/c", "/a")]
    [InlineData("HF_HUB_CACHE=/a;HUGGINGFACE_HUB_CACHE=/d", "/a")]
    [InlineData("HUGGINGFACE_HUB_CACHE=/d;HF_HOME=/b", "/d")]
    [InlineData("HF_HOME=/b;XDG_CACHE_HOME=/c", "/b/hub")]
    [InlineData("XDG_CACHE_HOME=/c", "/c/huggingface/hub")]
    [InlineData("HF_HUB_CACHE=", "~/.cache/huggingface/hub")]
    [InlineData("HF_HOME=~/models", "~/models/hub")]
    public void Open_GoesByTheEnvironment(string variables, string expected)
    {
        var given = variables.Split(';').Select(v => v.Split('=')).ToDictionary(v => v[0], v => v[1]);
        var home = Environment.GetFolderPath(Environment.SpecialFolder.UserProfile);
        Assert.Equal(expected.Replace("~", home, StringComparison.Ordinal), HuggingFaceCache.Open(name => given.GetValueOrDefault(name)).Folder);
    }

    [Theory]
    [InlineData("org/name", true)]
    [InlineData("org/name-1.5@fp16", true)]
    [InlineData("org/name@refs/pr/3", true)]
    [InlineData("name", false)]
    [InlineData("./org/name", false)]
    [InlineData("/org/name", false)]
    [InlineData("org/../name", false)]
    [InlineData("org/..", false)]
    [InlineData("org/name@../../etc", false)]
    [InlineData("org/name@a/../b", false)]
    [InlineData("a/b/c", false)]
    [InlineData(null, false)]
    public void IsName_IsTrueForOrgAndName(string? text, bool expected) => Assert.Equal(expected, HuggingFaceCache.IsName(text));

    [Theory]
    [InlineData("org/sd", One)]
    [InlineData("org/sd@main", One)]
    [InlineData("org/sd@fp16", Two)]
    [InlineData("org/sd@refs/pr/3", Two)]
    [InlineData("org/sd@fedcba98", Two)]
    public void TryFind_FollowsReferencesAndCommits(string name, string commit)
    {
        var cache = Filled();
        Assert.True(cache.TryFind(name, out var folder, out _));
        Assert.Equal(Path.Combine(_folder, "models--org--sd", "snapshots", commit), folder);
        Assert.Equal("{}", File.ReadAllText(Path.Combine(folder, "model_index.json")));
    }

    [Theory]
    [InlineData("org/other", "There is no model 'org/other' in the Hugging Face cache: looked for 'FOLDER/models--org--other'. Nothing is downloaded here: get it with 'hf download org/other', or set HF_HUB_CACHE or HF_HOME to where it is.")]
    [InlineData("org/sd@v9", "'FOLDER/models--org--sd' holds no revision 'v9' of 'org/sd', but fp16, main, refs/pr/3. Write org/sd@fp16 for one of them. Nothing is downloaded here: get it with 'hf download org/sd --revision v9', or set HF_HUB_CACHE or HF_HOME to where it is.")]
    [InlineData("org/broken", "'FOLDER/models--org--broken' holds no snapshot of 'org/broken': its download did not end. Nothing is downloaded here: get it with 'hf download org/broken', or set HF_HUB_CACHE or HF_HOME to where it is.")]
    public void TryFind_SaysWhereItLooked(string name, string expected)
    {
        var cache = Filled();
        Directory.CreateDirectory(Path.Combine(_folder, "models--org--broken", "blobs"));
        Assert.False(cache.TryFind(name, out _, out var reason));
        Assert.Equal(expected, reason.Replace(_folder, "FOLDER", StringComparison.Ordinal));
    }

    [Fact]
    public void List_NamesEveryRevision()
    {
        var models = Filled().List();
        Assert.Equal(["org/sd", "org/sd@fp16"], models.Select(m => m.Name));
        Assert.Equal(["fp16", "refs/pr/3"], models[1].References);
        Assert.Empty(HuggingFaceCache.At(Path.Combine(_folder, "none")).List());
    }

    [Fact]
    public void List_ModelWithoutOrganisation_IsNamedByItsFolder()
    {
        var snapshot = Directory.CreateDirectory(Path.Combine(_folder, "models--gpt2", "snapshots", One)).FullName;
        var model = Assert.Single(HuggingFaceCache.At(_folder).List());
        Assert.Equal(("gpt2", snapshot), (model.Id, model.Name));
    }

    /// <summary>The variable belongs to the process; no other test names a model.</summary>
    [Fact]
    public void Spec_ModelOfTheCache_BecomesTheFolderOfItsCommit()
    {
        Filled();
        using var spec = new SpecFolder();
        var before = Environment.GetEnvironmentVariable("HF_HUB_CACHE");
        Environment.SetEnvironmentVariable("HF_HUB_CACHE", _folder);
        try
        {
            var read = spec.Parse(SpecFolder.Valid.Replace("path: unet", "path: org/sd@fp16", StringComparison.Ordinal));
            Assert.Equal(Path.Combine(_folder, "models--org--sd", "snapshots", Two), read.Document!.Spec.Model.Path);
            var missing = spec.Problems(SpecFolder.Valid.Replace("path: unet", "path: org/none", StringComparison.Ordinal));
            Assert.Equal($"e.yaml:8:11: model.path: no such folder or file 'org/none'. Looked in 'FOLDER'. There is no model 'org/none' in the Hugging Face cache: looked for '{_folder}/models--org--none'. Nothing is downloaded here: get it with 'hf download org/none', or set HF_HUB_CACHE or HF_HOME to where it is.", missing);
            Assert.Contains("losses[0].classifier: no such folder 'org/none'", spec.Problems(SpecFolder.Valid.Replace("classifier: judge", "classifier: org/none", StringComparison.Ordinal)));
        }
        finally
        {
            Environment.SetEnvironmentVariable("HF_HUB_CACHE", before);
        }
    }

    /// <summary>A cache as huggingface_hub leaves it: links to blobs.</summary>
    private HuggingFaceCache Filled()
    {
        var model = Path.Combine(_folder, "models--org--sd");
        Directory.CreateDirectory(Path.Combine(model, "blobs"));
        File.WriteAllText(Path.Combine(model, "blobs", "aa"), "{}");
        foreach (var (reference, commit) in new[] { ("main", One), ("fp16", Two), ("refs/pr/3", Two) })
        {
            var file = Path.Combine(model, "refs", reference);
            Directory.CreateDirectory(Path.GetDirectoryName(file)!);
            File.WriteAllText(file, commit);
            var snapshot = Directory.CreateDirectory(Path.Combine(model, "snapshots", commit)).FullName;
            if (!File.Exists(Path.Combine(snapshot, "model_index.json")))
                File.CreateSymbolicLink(Path.Combine(snapshot, "model_index.json"), Path.Combine("..", "..", "blobs", "aa"));
        }

        return HuggingFaceCache.At(_folder);
    }
}
