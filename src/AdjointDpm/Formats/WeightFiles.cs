using System.Text.Json;
using TorchSharp;

namespace AdjointDpm.Formats;

/// <summary>The weights of one network: a safetensors file, or several listed by a <c>.safetensors.index.json</c>.</summary>
internal sealed class WeightFiles : IDisposable
{
    private readonly Dictionary<string, SafetensorsFile> _files = [];
    private readonly Dictionary<string, SafetensorsFile> _holders = new(StringComparer.Ordinal);

    private WeightFiles(string path) => Path = path;

    /// <summary>The file, or the index, that was opened.</summary>
    public string Path { get; }

    public IReadOnlyCollection<string> Names => _holders.Keys;

    /// <summary>The strings of the headers; of equal ones the first file's.</summary>
    public IReadOnlyDictionary<string, string> Metadata => _files.Values.SelectMany(f => f.Metadata).GroupBy(m => m.Key).ToDictionary(g => g.Key, g => g.First().Value);

    public static WeightFiles Open(string path)
    {
        var opened = new WeightFiles(path);
        try
        {
            if (path.EndsWith(".json", StringComparison.Ordinal))
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

    /// <summary>The weights in a network's folder: a file, or an index of several, of the wanted variant.</summary>
    /// <param name="folder">The network's folder.</param>
    /// <param name="stem">What the files begin with, such as <c>diffusion_pytorch_model</c> or <c>model</c>.</param>
    /// <param name="variant">Such as <c>fp16</c>; null for the plain weights, or else <c>fp16</c> where only that is there.</param>
    public static string Find(string folder, string stem, string? variant = null)
    {
        var names = (variant is null ? new[] { null, "fp16" } : [variant])
            .SelectMany(v => v is null ? new[] { $"{stem}.safetensors", $"{stem}.safetensors.index.json" } : [$"{stem}.{v}.safetensors", $"{stem}.safetensors.index.{v}.json"])
            .ToList();
        var found = names.Select(name => System.IO.Path.Combine(folder, name)).FirstOrDefault(File.Exists);
        if (found is not null)
            return found;
        var pickled = Directory.Exists(folder) ? Directory.EnumerateFiles(folder).Select(System.IO.Path.GetFileName).Order(StringComparer.Ordinal).FirstOrDefault(f => System.IO.Path.GetExtension(f) is ".bin" or ".pt" or ".pth" or ".ckpt") : null;
        throw new SafetensorsException(System.IO.Path.Combine(folder, names[0]), null, pickled is null
            ? $"there is no such file, nor {string.Join(" or ", names.Skip(1))}. Check the path{(variant is null ? "" : " and the variant")}."
            : $"there is no such file, only the pickled '{pickled}', which can run any code and is not read. Convert it to safetensors, or get the safetensors variant of the model.");
    }

    public IReadOnlyList<long> Shape(string name) => _holders[name].Shape(name);

    public torch.Tensor Read(string name) => _holders[name].Read(name);

    /// <summary>Reads many tensors, some at once: the copy out of the system's cache is what takes the time. Memory for more than is asked for at a time is never there.</summary>
    /// <param name="names">In the order in which they are handed over.</param>
    /// <param name="use">Takes each, on the calling thread; what it does not keep is freed after it.</param>
    public void ReadEach(IReadOnlyList<string> names, Action<string, torch.Tensor> use)
    {
        const long AtOnce = 64 << 20;
        for (var from = 0; from < names.Count;)
        {
            using var scope = torch.NewDisposeScope();
            List<(string Name, torch.Tensor Room)> batch = [];
            for (var bytes = 0L; from < names.Count && (batch.Count == 0 || bytes < AtOnce); from++)
            {
                batch.Add((names[from], _holders[names[from]].Room(names[from])));
                bytes += batch[^1].Room.numel() * batch[^1].Room.element_size();
            }

            try
            {
                Parallel.ForEach(batch, item => _holders[item.Name].Fill(item.Name, item.Room));
            }
            catch (AggregateException e) when (e.InnerExceptions[0] is SafetensorsException or IOException)
            {
                System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(e.InnerExceptions[0]);
            }

            foreach (var (name, room) in batch)
            {
                use(name, room);
                room.Dispose();
            }
        }
    }

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
                if (System.IO.Path.GetFileName(name) != name)
                    throw new SafetensorsException(path, entry.Name, $"is said to lie in '{name}'. An index may only name files in its own folder.");
                if (!_files.TryGetValue(name, out var file))
                    file = _files[name] = SafetensorsFile.Open(System.IO.Path.Combine(System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(path))!, name));
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
