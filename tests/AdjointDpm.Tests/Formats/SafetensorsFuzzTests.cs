using System.Globalization;
using System.Text;
using AdjointDpm.Formats;

namespace AdjointDpm.Tests.Formats;

/// <summary>Damaged headers: each is read or refused by name, and never costs more than its own bytes can pay for.</summary>
/// <remarks>As many as <c>ADJOINTDPM_FUZZ</c> says. Default: 200,000.</remarks>
public sealed class SafetensorsFuzzTests
{
    private const int DataLength = 48;

    // A dictionary entry, its name and its shape, for each forty bytes of header, and what exceptions and their texts take.
    private const int BytesForByte = 48, Constant = 16 * 1024;

    private static readonly string[] Seeds =
    [
        """{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b.weight":{"dtype":"I64","shape":[3],"data_offsets":[24,48]}}""",
        """{"__metadata__":{"format":"pt","n":"1"},"x":{"dtype":"BF16","shape":[4,6],"data_offsets":[0,48]},"y":{"dtype":"U8","shape":[0,7],"data_offsets":[48,48]}}   """,
        """{"ключ":{"data_offsets":[0,48],"shape":[],"dtype":"F64"}}""",
        """{"a":{"dtype":"F64","shape":[],"data_offsets":[0,8]},"b":{"dtype":"F64","shape":[1,1,1,1,5],"data_offsets":[8,48]}}""",
        """{"w":{"dtype":"F8_E4M3","shape":[6,4],"data_offsets":[0,24]},"v":{"dtype":"F8_E5M2","shape":[24],"data_offsets":[24,48]}}""",
        "{}",
    ];

    private static readonly string[] Pieces =
    [
        "9223372036854775807", "-1", "1e400", "4611686018427387904", "0.5", "1E1", "18446744073709551616", "00", "\\ud800", "\\u0000", "\"", "{", "}", "[", "]", ":", ",", "null", "true", "__metadata__", "dtype", "\"F16\"", "\"F8_E4M3\"",
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "{\"a\":{\"a\":{\"a\":{", "\"shape\":[0,9223372036854775807,2],", "data_offsets", "48", "24", "0", "/*", "\u00ff", " ",
    ];

    [Fact]
    public void Headers_Damaged_AreReadOrRefused_AndCostNoMoreThanTheyHold()
    {
        var count = long.Parse(Environment.GetEnvironmentVariable("ADJOINTDPM_FUZZ") ?? "200000", CultureInfo.InvariantCulture);
        var (read, refused, most) = (0L, 0L, 0.0);
        for (var n = 0L; n < count; n++)
        {
            var random = new Random(unchecked((int)(n * 2_654_435_761)));
            var header = Damage(random);
            var before = GC.GetAllocatedBytesForCurrentThread();
            try
            {
                var parsed = SafetensorsHeader.Parse("f", header, DataLength);
                Assert.Equal(DataLength, parsed.Entries.Values.Sum(e => e.End - e.Begin));
                Assert.All(parsed.Entries.Values, e => Assert.InRange(e.End, e.Begin, DataLength));
                read++;
            }
            catch (SafetensorsException)
            {
                refused++;
            }

            var spent = GC.GetAllocatedBytesForCurrentThread() - before;
            most = Math.Max(most, spent / (double)(Constant + (BytesForByte * header.Length)));
            Assert.True(most <= 1, $"header {n} of {header.Length} bytes took {spent}: {Encoding.UTF8.GetString(header)}");
        }

        TestContext.Current.SendDiagnosticMessage($"{count} damaged headers: {read} read, {refused} refused, at most {most:p0} of the allowed memory");
        Assert.True(read > 0 && refused > read);
    }

    [Fact]
    public void Files_WithDamagedLengths_AreReadOrRefused_WithoutTheMemoryTheyClaim()
    {
        using var folder = new TemporaryFolder();
        for (var n = 0; n < 300; n++)
        {
            var random = new Random(n);
            var header = n % 2 == 0 ? Damage(random) : Encoding.UTF8.GetBytes(Seeds[random.Next(Seeds.Length)]);
            var claimed = random.Next(4) switch { 0 => header.Length, 1 => random.NextInt64(), 2 => header.Length + random.Next(-9, 60), _ => 1L << random.Next(63) };
            File.WriteAllBytes(folder["a"], [.. BitConverter.GetBytes(claimed), .. header, .. new byte[DataLength]]);
            var before = GC.GetAllocatedBytesForCurrentThread();
            try
            {
                using var file = SafetensorsFile.Open(folder["a"]);
                foreach (var name in file.Names)
                    file.Read(name).Dispose();
            }
            catch (SafetensorsException)
            {
            }

            Assert.True(GC.GetAllocatedBytesForCurrentThread() - before <= 8 * Constant + (BytesForByte * header.Length), $"file {n}, claimed {claimed}");
        }
    }

    private static byte[] Damage(Random random)
    {
        var bytes = Encoding.UTF8.GetBytes(Seeds[random.Next(Seeds.Length)]).ToList();
        for (var times = random.Next(1, 4); times > 0; times--)
        {
            var at = random.Next(bytes.Count + 1);
            var length = Math.Min(random.Next(1, 24), bytes.Count - at);
            switch (random.Next(7))
            {
                case 0 when at < bytes.Count:
                    bytes[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 1 when at < bytes.Count:
                    bytes[at] = (byte)random.Next(256);
                    break;
                case 2:
                    bytes.RemoveRange(at, length);
                    break;
                case 3:
                    bytes.InsertRange(random.Next(bytes.Count + 1), bytes.GetRange(at, length));
                    break;
                case 4:
                    bytes.RemoveRange(at, bytes.Count - at);
                    break;
                case 5:
                    // In the place of a number or a word, if there is one.
                    var start = at;
                    while (at < bytes.Count && char.IsAsciiLetterOrDigit((char)bytes[at]))
                        at++;
                    bytes.RemoveRange(start, at - start);
                    bytes.InsertRange(start, Encoding.UTF8.GetBytes(Pieces[random.Next(Pieces.Length)]));
                    break;
                default:
                    bytes.InsertRange(at, Encoding.UTF8.GetBytes(Pieces[random.Next(Pieces.Length)]));
                    break;
            }
        }

        return [.. bytes];
    }
}
