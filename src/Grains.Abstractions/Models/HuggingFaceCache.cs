using System.Diagnostics.CodeAnalysis;
using System.Text.RegularExpressions;

namespace AdjointDpm.Grains.Models;

/// <summary>Models that Hugging Face's tools have downloaded to this machine. Nothing is ever downloaded here.</summary>
/// <remarks>
/// Layout of huggingface_hub: <c>models--{org}--{name}/refs/{revision}</c> holds a commit, <c>snapshots/{commit}/…</c> its files as links to
/// <c>blobs/{hash}</c>. The folder is <c>HF_HUB_CACHE</c>, else <c>HUGGINGFACE_HUB_CACHE</c>, its older name, else <c>HF_HOME/hub</c>, else <c>XDG_CACHE_HOME/huggingface/hub</c>, else <c>~/.cache/huggingface/hub</c>.
/// </remarks>
public sealed partial class HuggingFaceCache
{
    private const string Main = "main";

    private HuggingFaceCache(string folder) => Folder = folder;

    /// <summary>The folder with the models; may be missing.</summary>
    public string Folder { get; }

    /// <summary>The cache that the environment names.</summary>
    /// <param name="variable">Gives environment variables. Default: this process's.</param>
    public static HuggingFaceCache Open(Func<string, string?>? variable = null)
    {
        variable ??= Environment.GetEnvironmentVariable;
        if ((Given("HF_HUB_CACHE") ?? Given("HUGGINGFACE_HUB_CACHE")) is { } cache)
            return new(cache);
        if (Given("HF_HOME") is { } home)
            return new(Path.Combine(home, "hub"));
        var own = Given("XDG_CACHE_HOME") ?? Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache");
        return new(Path.Combine(own, "huggingface", "hub"));

        string? Given(string name) => variable(name) is { Length: > 0 } text ? Path.GetFullPath(Tilde(text)) : null;
        string Tilde(string path) => path is "~" || path.StartsWith("~/", StringComparison.Ordinal) ? Environment.GetFolderPath(Environment.SpecialFolder.UserProfile) + path[1..] : path;
    }

    /// <summary>The cache in a folder.</summary>
    public static HuggingFaceCache At(string folder) => new(folder);

    /// <summary>Whether a text may name a model: <c>org/name</c> or <c>org/name@revision</c>, where a revision is a branch, a tag or (the beginning of) a commit.</summary>
    public static bool IsName([NotNullWhen(true)] string? text) => text is not null && Name().IsMatch(text);

    /// <summary>The folder with a model's files.</summary>
    /// <param name="name">Such as <c>org/name</c> or <c>org/name@revision</c>. Without a revision: main.</param>
    /// <param name="folder">The snapshot, an absolute path that names the commit; null when it is not there.</param>
    /// <param name="reason">When it is not there: what was looked for, where, and what to do.</param>
    /// <exception cref="ArgumentException">The text is no model's name; ask <see cref="IsName"/> first.</exception>
    public bool TryFind(string name, [NotNullWhen(true)] out string? folder, [NotNullWhen(false)] out string? reason)
    {
        (folder, reason) = (null, null);
        if (!IsName(name))
            throw new ArgumentException($"'{name}' is no name of a model, which is org/name or org/name@revision.", nameof(name));
        var at = name.IndexOf('@', StringComparison.Ordinal);
        var (id, revision) = at < 0 ? (name, Main) : (name[..at], name[(at + 1)..]);
        var repository = Path.Combine(Folder, "models--" + id.Replace("/", "--", StringComparison.Ordinal));
        if (!Directory.Exists(repository))
        {
            reason = $"There is no model '{id}' in the Hugging Face cache: looked for '{repository}'. {Advice()}";
            return false;
        }

        if (Commit(repository, revision) is { } commit && Path.Combine(repository, "snapshots", commit) is var snapshot && Directory.Exists(snapshot))
        {
            folder = snapshot;
            return true;
        }

        var known = Revisions(repository);
        reason = known.Count == 0
            ? $"'{repository}' holds no snapshot of '{id}': its download did not end. {Advice()}"
            : $"'{repository}' holds no revision '{revision}' of '{id}', but {string.Join(", ", known)}. Write {id}@{known[0]} for one of them. {Advice()}";
        return false;

        string Advice() => $"Nothing is downloaded here: get it with 'hf download {id}{(at < 0 ? "" : $" --revision {revision}")}', or set HF_HUB_CACHE or HF_HOME to where it is.";
    }

    /// <summary>All models that are there, by name; each revision is one.</summary>
    public IReadOnlyList<HuggingFaceModel> List()
    {
        if (!Directory.Exists(Folder))
            return [];
        var found = new List<HuggingFaceModel>();
        foreach (var repository in Directory.EnumerateDirectories(Folder, "models--*").Order(StringComparer.Ordinal))
        {
            var id = string.Join('/', Path.GetFileName(repository)["models--".Length..].Split("--", 2));
            var byCommit = References(repository).ToLookup(r => r.Commit, r => r.Name, StringComparer.Ordinal);
            foreach (var commit in Snapshots(repository))
                found.Add(new(id, commit, [.. byCommit[commit].Order(StringComparer.Ordinal)], Path.Combine(repository, "snapshots", commit)));
        }

        return found;
    }

    // Revisions are names of files: only what Name allows, without '..', comes here.
    private static string? Commit(string repository, string revision)
    {
        var reference = Path.Combine(repository, "refs", revision);
        if (File.Exists(reference))
            return File.ReadAllText(reference).Trim() is var text && Hash().IsMatch(text) ? text : null;
        var beginning = Hash().IsMatch(revision) ? Snapshots(repository).Where(s => s.StartsWith(revision, StringComparison.Ordinal)).Take(2).ToList() : [];
        return beginning.Count == 1 ? beginning[0] : null;
    }

    private static List<string> Revisions(string repository)
    {
        var snapshots = Snapshots(repository);
        var named = References(repository).Where(r => snapshots.Contains(r.Commit)).ToList();
        return [.. named.Select(r => r.Name).Order(StringComparer.Ordinal), .. snapshots.Except(named.Select(r => r.Commit), StringComparer.Ordinal)];
    }

    private static IEnumerable<(string Name, string Commit)> References(string repository)
    {
        var folder = Path.Combine(repository, "refs");
        return Directory.Exists(folder)
            ? Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories).Select(file => (Path.GetRelativePath(folder, file).Replace('\\', '/'), File.ReadAllText(file).Trim()))
            : [];
    }

    private static List<string> Snapshots(string repository)
    {
        var folder = Path.Combine(repository, "snapshots");
        return Directory.Exists(folder) ? [.. Directory.EnumerateDirectories(folder).Select(s => Path.GetFileName(s)).Order(StringComparer.Ordinal)] : [];
    }

    [GeneratedRegex(@"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@(?!.*\.\.)[\w.-]+(/[\w.-]+)*)?\z", RegexOptions.CultureInvariant)]
    private static partial Regex Name();

    [GeneratedRegex(@"^[0-9a-f]{4,64}\z", RegexOptions.CultureInvariant)]
    private static partial Regex Hash();
}

/// <summary>One revision of a model in the cache.</summary>
/// <param name="Id">Such as <c>org/name</c>; old models have a name alone.</param>
/// <param name="Commit">The commit.</param>
/// <param name="References">Branches and tags that are known to be this commit.</param>
/// <param name="Folder">Its files.</param>
public sealed record HuggingFaceModel(string Id, string Commit, IReadOnlyList<string> References, string Folder)
{
    /// <summary>How to name it: without a revision where that is main; by its folder where the model belongs to no organisation, as the first ones do, since a name alone may be anything.</summary>
    public string Name => !HuggingFaceCache.IsName(Id) ? Folder : References.Contains("main") ? Id : $"{Id}@{(References.Count > 0 ? References[0] : Commit[..Math.Min(12, Commit.Length)])}";
}
