using System.Text.Json;
using TorchSharp;

namespace AdjointDpm.Formats;

/// <summary>The weights of one network: a safetensors file, or several listed by a <c>.safetensors.index.json</c>.</summary>
internal sealed class WeightFiles : IDisposable
{
    private readonly Dictionary<string, SafetensorsFile> _files = [];
    private readonly Dictionary<string, SafetensorsFile> _holders = new(StringComparer.Ordinal);

    public IEnumerable<string> Names => _holders.Keys;

    public static WeightFiles Open(string path)
    {
        var opened = new WeightFiles();
        try
        {
            if (path.EndsWith(".index.json", StringComparison.Ordinal))
                opened.OpenListed(path);
            else
                opened.OpenSingle(path);
            return opened;
        }
        catch
        {
            opened.Dispose();
            throw;
        }
    }

    public IReadOnlyList<long> Shape(string name) => _holders[name].Shape(name);

    public torch.Tensor Read(string name) => _holders[name].Read(name);

    public void Dispose()
    {
        foreach (var file in _files.Values)
            file.Dispose();
    }

    private void OpenSingle(string path)
    {
        var file = _files[path] = SafetensorsFile.Open(path);
        foreach (var name in file.Names)
            _holders[name] = file;
    }

    private void OpenListed(string path)
    {
        if (!File.Exists(path))
            throw new SafetensorsException(path, null, "there is no such file. Check the path.");
        try
        {
            using var json = JsonDocument.Parse(File.ReadAllBytes(path));
            foreach (var entry in json.RootElement.GetProperty("weight_map").EnumerateObject())
            {
                var name = entry.Value.GetString()!;
                // An index names files beside it; anything else would read where nobody expects it to.
                if (Path.GetFileName(name) != name)
                    throw new SafetensorsException(path, entry.Name, $"is said to lie in '{name}'. An index may only name files in its own folder.");
                if (!_files.TryGetValue(name, out var file))
                    file = _files[name] = SafetensorsFile.Open(Path.Combine(Path.GetDirectoryName(Path.GetFullPath(path))!, name));
                if (!file.Contains(entry.Name))
                    throw new SafetensorsException(path, entry.Name, $"is said to lie in '{name}', which does not hold it. Get the files again.");
                _holders[entry.Name] = file;
            }
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            throw new SafetensorsException(path, null, $"is not an index of weights with a \"weight_map\" of names to files ({e.Message})", e);
        }
    }
}
