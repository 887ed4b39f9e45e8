using System.Globalization;
using Parquet;
using Parquet.Schema;

namespace AdjointDpm.Grains.Prompts;

/// <summary>Prompts in a parquet file, as data sets of captions come.</summary>
internal static class ParquetPrompts
{
    // On a thread of the pool: nobody's context is waited for.
    public static List<Prompt> Read(string path) => Task.Run(() => ReadAsync(path)).GetAwaiter().GetResult();

    private static async Task<List<Prompt>> ReadAsync(string path)
    {
        try
        {
            await using var stream = File.OpenRead(path);
            await using var reader = await ParquetReader.CreateAsync(stream);
            var fields = reader.Schema.GetDataFields();
            PromptRow.RequirePrompt(fields.Select(f => f.Name), new(path, 1, "row"));
            var prompts = new List<Prompt>();
            for (var i = 0; i < reader.RowGroupCount; i++)
            {
                using var group = reader.OpenRowGroupReader(i);
                var rows = Enumerable.Range(0, checked((int)group.RowCount)).Select(n => new PromptRow(new(path, prompts.Count + n + 1, "row"))).ToList();
                foreach (var field in fields.Where(f => !f.IsArray && f.MaxRepetitionLevel == 0))
                    await AddAsync(group, field, rows);
                prompts.AddRange(rows.Select(row => row.Prompt()));
            }

            return prompts;
        }
        catch (Exception e) when (e is ParquetException or IOException or FormatException or OverflowException or ArgumentException or NotSupportedException or IndexOutOfRangeException)
        {
            throw new InvalidDataException($"{path}: is no parquet file that can be read: {e.Message}", e);
        }
    }

    private static async Task AddAsync(ParquetRowGroupReader group, DataField field, List<PromptRow> rows)
    {
        if (field.ClrType == typeof(ReadOnlyMemory<char>) || field.ClrType == typeof(string))
        {
            var texts = new string?[rows.Count];
            await group.ReadAsync(field, texts.AsMemory()!);
            Add(texts);
        }
        else if (field.ClrType == typeof(int))
        {
            await NumbersAsync<int>();
        }
        else if (field.ClrType == typeof(long))
        {
            await NumbersAsync<long>();
        }
        else if (field.ClrType == typeof(double))
        {
            await NumbersAsync<double>();
        }
        else if (field.ClrType == typeof(float))
        {
            await NumbersAsync<float>();
        }

        async Task NumbersAsync<T>()
            where T : struct, IFormattable
        {
            if (field.IsNullable)
            {
                var values = new T?[rows.Count];
                await group.ReadAsync(field, values.AsMemory());
                Add([.. values.Select(v => v?.ToString(null, CultureInfo.InvariantCulture))]);
            }
            else
            {
                var values = new T[rows.Count];
                await group.ReadAsync(field, values.AsMemory());
                Add([.. values.Select(v => v.ToString(null, CultureInfo.InvariantCulture))]);
            }
        }

        void Add(string?[] values)
        {
            for (var i = 0; i < rows.Count; i++)
                rows[i].Add(field.Name, values[i]);
        }
    }
}
