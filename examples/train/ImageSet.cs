using System.Buffers.Binary;
using System.IO.Compression;
using static TorchSharp.torch;

namespace AdjointDpm.Train;

/// <summary>Labelled grey images: bytes on the host, made into tensors batch by batch.</summary>
/// <param name="Size">Height and width in pixels.</param>
/// <param name="Pixels">Count × Size × Size values in [-1, 1].</param>
/// <param name="Labels">One class for each image.</param>
internal sealed record ImageSet(int Size, float[] Pixels, long[] Labels)
{
    public int Count => Labels.Length;

    /// <summary>The images and labels at some places, shapes [B, 1, Size, Size] and [B].</summary>
    public (Tensor Images, Tensor Labels) Batch(ReadOnlySpan<long> places)
    {
        var length = Size * Size;
        var pixels = new float[places.Length * length];
        var labels = new long[places.Length];
        for (var i = 0; i < places.Length; i++)
        {
            Pixels.AsSpan((int)places[i] * length, length).CopyTo(pixels.AsSpan(i * length));
            labels[i] = Labels[places[i]];
        }

        return (tensor(pixels, [places.Length, 1, Size, Size]), tensor(labels));
    }

    /// <summary>A folder of MNIST's raw IDX files becomes training and test set; <c>digits.csv.gz</c> is split 80 to 20 in the file's order.</summary>
    public static (ImageSet Train, ImageSet Test) Read(string path)
    {
        if (Directory.Exists(path))
            return (ReadIdx(path, "train"), ReadIdx(path, "t10k"));
        if (File.Exists(path))
            return ReadDigits(path);
        throw new FileNotFoundException($"{path}: neither a folder of MNIST files nor digits.csv.gz. Run `train data` to see where to get them.");
    }

    private static ImageSet ReadIdx(string folder, string name)
    {
        var images = Idx(Path.Combine(folder, $"{name}-images-idx3-ubyte"), 0x803, out var shape);
        var labels = Idx(Path.Combine(folder, $"{name}-labels-idx1-ubyte"), 0x801, out _);
        return new ImageSet(shape[1], Array.ConvertAll(images, b => (float)(b / 127.5 - 1)), Array.ConvertAll(labels, b => (long)b));
    }

    private static byte[] Idx(string path, int magic, out int[] shape)
    {
        if (!File.Exists(path))
            throw new FileNotFoundException($"{path}: there is no such file. Run `train data` to see where to get MNIST.");
        var file = File.ReadAllBytes(path);
        var found = BinaryPrimitives.ReadInt32BigEndian(file);
        if (found != magic)
            throw new InvalidDataException($"{path}: begins with 0x{found:x}, expected 0x{magic:x}. The file must be unpacked IDX.");
        shape = [.. Enumerable.Range(0, magic & 0xff).Select(i => BinaryPrimitives.ReadInt32BigEndian(file.AsSpan(4 + 4 * i)))];
        var start = 4 + 4 * shape.Length;
        var length = shape.Aggregate(1, (a, b) => a * b);
        if (file.Length - start != length)
            throw new InvalidDataException($"{path}: holds {file.Length - start} values, but its header promises {length}. Get the file again.");
        return file[start..];
    }

    private static (ImageSet Train, ImageSet Test) ReadDigits(string path)
    {
        using var reader = new StreamReader(new GZipStream(File.OpenRead(path), CompressionMode.Decompress));
        var rows = new List<int[]>();
        while (reader.ReadLine() is { Length: > 0 } line)
            rows.Add(Array.ConvertAll(line.Split(','), s => (int)double.Parse(s, System.Globalization.CultureInfo.InvariantCulture)));
        var split = rows.Count * 4 / 5;
        return (Digits(rows[..split]), Digits(rows[split..]));
    }

    private static ImageSet Digits(List<int[]> rows) =>
        new(8, [.. rows.SelectMany(r => r.Take(64)).Select(v => v / 8f - 1)], [.. rows.Select(r => (long)r[64])]);
}
