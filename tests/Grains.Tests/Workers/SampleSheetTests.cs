using AdjointDpm.Grains.Workers.Engine;
using SkiaSharp;

namespace AdjointDpm.Grains.Tests.Workers;

public sealed class SampleSheetTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("adjointdpm-sheet-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData(8, 12), InlineData(28, 3), InlineData(64, 2), InlineData(96, 1), InlineData(512, 1)]
    public void Samples_AreEnlargedOnlyWhereTheyAreSmall(int side, int scale)
    {
        var samples = new SheetPixels(new float[2 * 3 * side * side], 3, side, side);
        SampleSheet.Write(_folder, samples, samples, columns: 2);
        using var sheet = SKBitmap.Decode(Path.Combine(_folder, "after.png"));
        Assert.Equal((2 * (side * scale + 4) + 4, side * scale + 4 + 8), (sheet.Width, sheet.Height));
    }

    [Fact]
    public void Pixels_StaySquaresOfTheirColour_InTheirPlace()
    {
        // Two samples of 2 × 48 × 2: red, green and blue from row to row and column to column, and what no picture can hold.
        const int Height = 48, Width = 48, Plane = Height * Width;
        var values = new float[2 * 3 * Plane];
        for (var i = 0; i < Plane; i++)
            (values[i], values[Plane + i], values[2 * Plane + i]) = (i % Width / 24f - 1, i / Width / 24f - 1, i == 0 ? float.NaN : 3);
        SampleSheet.Write(_folder, new SheetPixels(values, 3, Height, Width), new SheetPixels([.. values.Select(value => -value)], 3, Height, Width), columns: 1);
        using var sheet = SKBitmap.Decode(Path.Combine(_folder, "before.png"));
        Assert.Equal(new SKColor(0, 0, 0), sheet.GetPixel(4, 8));
        foreach (var (x, y) in new[] { (1, 0), (47, 0), (0, 47), (13, 31) })
            foreach (var (dx, dy) in new[] { (0, 0), (1, 1) })
                Assert.Equal(new SKColor((byte)Math.Round(x / 24f * 127.5), (byte)Math.Round(y / 24f * 127.5), 255), sheet.GetPixel(4 + 2 * x + dx, 8 + 2 * y + dy));
        // The second sample is grey, which is zero.
        Assert.Equal(new SKColor(128, 128, 128), sheet.GetPixel(4, 8 + 2 * Height + 4));
    }

    [Fact]
    public void OneChannel_IsGrey()
    {
        SampleSheet.Write(_folder, new SheetPixels([.. Enumerable.Repeat(1f, 96 * 96)], 1, 96, 96), new SheetPixels([.. Enumerable.Repeat(0.2f, 96 * 96)], 1, 96, 96), columns: 1);
        using var sheet = SKBitmap.Decode(Path.Combine(_folder, "after.png"));
        Assert.Equal(new SKColor(153, 153, 153), sheet.GetPixel(50, 50));
    }
}
