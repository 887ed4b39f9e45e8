namespace AdjointDpm.Grains.Experiments.Searching;

/// <summary>The Sobol sequence in Gray-code order with the direction numbers of Joe and Kuo 2008 (new-joe-kuo-6), and a digital shift.</summary>
internal static class Sobol
{
    private const int Bits = 32;

    /// <summary>Degree of the primitive polynomial, its inner coefficients, and the first direction numbers, from the second dimension on.</summary>
    private static readonly (int Degree, uint Coefficients, uint[] Numbers)[] Table =
    [
        (1, 0, [1]), (2, 1, [1, 3]), (3, 1, [1, 3, 1]), (3, 2, [1, 1, 1]), (4, 1, [1, 1, 3, 3]), (4, 4, [1, 3, 5, 13]),
        (5, 2, [1, 1, 5, 5, 17]), (5, 4, [1, 1, 5, 5, 5]), (5, 7, [1, 1, 7, 11, 19]), (5, 11, [1, 1, 5, 1, 1]), (5, 13, [1, 1, 1, 3, 11]), (5, 14, [1, 3, 5, 5, 31]),
        (6, 1, [1, 3, 3, 9, 7, 49]), (6, 13, [1, 1, 1, 15, 21, 21]), (6, 16, [1, 3, 1, 13, 27, 49]), (6, 19, [1, 1, 1, 15, 7, 5]), (6, 22, [1, 3, 1, 15, 13, 25]), (6, 25, [1, 1, 5, 5, 19, 61]),
        (7, 1, [1, 3, 7, 11, 23, 15, 103]), (7, 4, [1, 3, 7, 13, 13, 15, 69]),
    ];

    private static readonly uint[][] Directions = [.. Enumerable.Range(0, Table.Length + 1).Select(DirectionsOf)];

    /// <summary>Most dimensions.</summary>
    public static int MostDimensions => Directions.Length;

    /// <summary>A coordinate of a point, in [0, 1).</summary>
    /// <param name="point">Index of the point.</param>
    /// <param name="dimension">Index of the coordinate.</param>
    /// <param name="shift">The upper 32 bits are added to the coordinate's, without carry.</param>
    public static double At(int point, int dimension, ulong shift = 0)
    {
        var x = (uint)(shift >> 32);
        var directions = Directions[dimension];
        var gray = (uint)point ^ ((uint)point >> 1);
        for (var bit = 0; gray != 0; bit++, gray >>= 1)
            if ((gray & 1) != 0)
                x ^= directions[bit];
        return x / (double)(1UL << Bits);
    }

    /// <summary>A whole point of the sequence that is a seed's own; beyond the tables draws.</summary>
    public static double[] Even(int seed, int point, int dimensions)
    {
        var shift = new SearchDraws(seed, 0);
        return [.. Enumerable.Range(0, dimensions).Select(d =>
        {
            var bits = (ulong)(shift.Uniform() * ulong.MaxValue);
            return d < MostDimensions ? At(point, d, bits) : new SearchDraws(seed, point + (d << 20)).Uniform();
        })];
    }

    private static uint[] DirectionsOf(int dimension)
    {
        var v = new uint[Bits];
        if (dimension == 0)
        {
            for (var i = 0; i < Bits; i++)
                v[i] = 1u << (Bits - 1 - i);
            return v;
        }
        var (degree, coefficients, numbers) = Table[dimension - 1];
        for (var i = 0; i < Bits; i++)
        {
            if (i < degree)
            {
                v[i] = numbers[i] << (Bits - 1 - i);
                continue;
            }
            v[i] = v[i - degree] ^ (v[i - degree] >> degree);
            for (var k = 1; k < degree; k++)
                if ((coefficients >> (degree - 1 - k) & 1) != 0)
                    v[i] ^= v[i - k];
        }
        return v;
    }
}
