using System.Text;
using AdjointDpm.Grains.Experiments;
using AdjointDpm.Grains.Specs;

namespace AdjointDpm.Grains.Security;

/// <summary>What a spec from somebody who is not an admin may name: files below the roots, sidecars of a list, no TorchScript unless an admin allows it.</summary>
/// <param name="roots">Folders that paths must lie in.</param>
/// <param name="sidecars">Addresses of sidecars, such as http://rewards:8900.</param>
/// <param name="allowTorchScript">Whether submitters may name TorchScript, which runs code of its author in the silo.</param>
/// <param name="mostSpecBytes">Longest spec, of anybody.</param>
internal sealed class SubmissionRules(IReadOnlyList<string> roots, IReadOnlyList<string> sidecars, bool allowTorchScript, int mostSpecBytes)
{
    private const int MostSettings = 1000;
    private readonly string[] _roots = [.. roots.Select(root => Path.TrimEndingDirectorySeparator(Real(Path.GetFullPath(root))))];
    private readonly Uri[] _sidecars = [.. sidecars.Select(address => new Uri(address))];

    /// <exception cref="ArgumentException">The spec is too long or makes no sense.</exception>
    /// <exception cref="UnauthorizedAccessException">It names what this caller may not.</exception>
    public void Demand(ExperimentSubmission submission, Caller caller)
    {
        if (submission.SpecJson is null || submission.SpecSha256 is null || submission.Name is null)
            throw new ArgumentException("The submission lacks its spec, its SHA-256 or its name.");
        if (submission.SpecJson.Length > mostSpecBytes || Encoding.UTF8.GetByteCount(submission.SpecJson) > mostSpecBytes)
            throw new ArgumentException($"The spec is longer than {mostSpecBytes} bytes. Put prompts into a file.");
        if (submission.Name.Length > 200)
            throw new ArgumentException("The name is longer than 200 characters.");
        if (caller.Role == Role.Admin)
            return;
        ExperimentSpec spec;
        try
        {
            spec = ExperimentSpecJson.Deserialize(submission.SpecJson);
        }
        catch (Exception e) when (e is SpecException or InvalidOperationException or System.Text.Json.JsonException)
        {
            throw new ArgumentException(e.Message);
        }
        foreach (var (name, _, path) in SpecPaths.Of(ExperimentSpecJson.Serialize(spec)))
            DemandPath(name, path);
        foreach (var loss in spec.AllLosses())
        {
            if (loss.Name == LossName.TorchScript)
                DemandTorchScript();
            foreach (var address in loss.Addresses ?? [])
                DemandSidecar(address);
            // What a loss of the host makes of them is not known here.
            foreach (var (option, value) in loss.Options ?? new Dictionary<string, string>())
                DemandText($"The option {option} of a custom loss", value);
        }
        foreach (var (name, parameter) in spec.Parameters)
            foreach (var value in parameter.Values ?? [])
                DemandText(name, value);
    }

    /// <summary>An edit changes values of searched parameters; they are held to the same.</summary>
    public void Demand(ExperimentControl edit, Caller caller)
    {
        if (edit.Settings is null || edit.Settings.Count > MostSettings || edit.Settings.Sum(setting => (setting.Key?.Length ?? 0) + (long)(setting.Value?.Length ?? 0)) > mostSpecBytes)
            throw new ArgumentException($"The edit is longer than {mostSpecBytes} bytes or {MostSettings} settings.");
        if (caller.Role == Role.Admin)
            return;
        foreach (var (name, value) in edit.Settings)
            DemandText(name, value);
    }

    /// <summary>A text that may hold any value of a spec, alone or in a list.</summary>
    private void DemandText(string name, string text)
    {
        foreach (var word in text.Split(['[', ']', '{', '}', ',', '"', '\'', ' ', '\t', '\n', '\r'], StringSplitOptions.RemoveEmptyEntries))
        {
            if (Path.IsPathRooted(word) || word.Contains("..", StringComparison.Ordinal) || Path.IsPathRooted(text))
                DemandPath(name, Path.IsPathRooted(text) ? text : word);
            if (word.Contains("://", StringComparison.Ordinal))
                DemandSidecar(word);
            if (word.Equals(nameof(LossName.TorchScript), StringComparison.OrdinalIgnoreCase))
                DemandTorchScript();
        }
    }

    private void DemandPath(string name, string path)
    {
        var real = Path.IsPathFullyQualified(path) && !path.Contains('\0') ? Real(Path.GetFullPath(path)) : null;
        if (real is null || !_roots.Any(root => real == root || real.StartsWith(root.EndsWith(Path.DirectorySeparatorChar) ? root : root + Path.DirectorySeparatorChar, StringComparison.Ordinal)))
            throw new UnauthorizedAccessException($"{name} names a path outside of the folders that this cluster takes models and files from ({(_roots.Length == 0 ? "none: an admin sets Security:Roots" : string.Join(", ", _roots))}). Put it there, or ask an admin to submit.");
    }

    private void DemandSidecar(string address)
    {
        if (!Uri.TryCreate(address, UriKind.Absolute, out var uri) || uri.UserInfo.Length > 0 || !_sidecars.Any(allowed => (allowed.Scheme, allowed.Host, allowed.Port) == (uri.Scheme, uri.Host, uri.Port)))
            throw new UnauthorizedAccessException("The spec names a sidecar that is not among those that this cluster may call. An admin adds it to Security:Sidecars.");
    }

    private void DemandTorchScript()
    {
        if (!allowTorchScript)
            throw new UnauthorizedAccessException("TorchScript runs its author's code on the silos, so only an admin may submit it, unless Security:AllowTorchScript is set.");
    }

    /// <summary>Where a path leads when links are followed, as far as it exists.</summary>
    private static string Real(string path)
    {
        var root = Path.GetPathRoot(path)!;
        var real = root;
        var links = 0;
        foreach (var part in path[root.Length..].Split(Path.DirectorySeparatorChar, StringSplitOptions.RemoveEmptyEntries))
        {
            real = Path.Combine(real, part);
            // A chain of links, or a link among links, resolves to the end.
            if (new FileInfo(real) is { LinkTarget: { } target })
                real = ++links > 40 ? throw new ArgumentException("A path leads through too many links.") : Real(Path.GetFullPath(Path.Combine(Path.GetDirectoryName(real)!, target)));
        }
        return real;
    }
}
