using System.Buffers.Binary;
using System.Text;

namespace AdjointDpm.Native;

/// <summary>One symbol-version requirement of a shared library: a Vernaux entry of its <c>.gnu.version_r</c> table.</summary>
/// <param name="Library">Library that must provide it, such as <c>libstdc++.so.6</c>.</param>
/// <param name="Version">Version name, such as <c>GLIBCXX_3.4.32</c>.</param>
/// <param name="Index">Value by which the symbol table refers to this version.</param>
/// <param name="IsWeak">True when the loader only warns instead of refusing (VER_FLG_WEAK).</param>
/// <param name="FlagsOffset">Offset in bytes of the entry's flags (u16) in the file.</param>
internal readonly record struct ElfVersionNeed(string Library, string Version, ushort Index, bool IsWeak, long FlagsOffset);

/// <summary>Reads the dynamic section of a 64-bit little-endian ELF shared library: enough to see and relax its version requirements.</summary>
/// <remarks>System V ABI, chapters 4–5; version tables as in the LSB core specification, "Symbol Versioning".</remarks>
internal sealed class ElfImage
{
    private const ushort VerFlgWeak = 0x2;
    private const long DtStrtab = 5, DtSymtab = 6, DtVersym = 0x6ffffff0, DtVerdef = 0x6ffffffc, DtVerdefnum = 0x6ffffffd, DtVerneed = 0x6ffffffe, DtVerneednum = 0x6fffffff;
    private readonly byte[] _file;
    private readonly List<(long Address, long Offset, long Size)> _segments = [];
    private readonly Dictionary<long, long> _dynamic = [];

    private ElfImage(byte[] file) => _file = file;

    /// <summary>Parses an image.</summary>
    /// <exception cref="BadImageFormatException">The bytes are no 64-bit little-endian ELF shared library, or are cut off.</exception>
    public static ElfImage Parse(byte[] file)
    {
        var image = new ElfImage(file);
        try
        {
            image.ReadDynamic();
        }
        catch (ArgumentOutOfRangeException e)
        {
            throw new BadImageFormatException("the file ends inside its own tables", e);
        }

        return image;
    }

    /// <summary>All version requirements, in file order.</summary>
    public IReadOnlyList<ElfVersionNeed> VersionNeeds()
    {
        var needs = new List<ElfVersionNeed>();
        if (!_dynamic.TryGetValue(DtVerneed, out var address))
            return needs;
        var entry = Offset(address);
        for (var left = _dynamic[DtVerneednum]; left > 0; left--)
        {
            var library = String(U32(entry + 4));
            var aux = entry + U32(entry + 8);
            for (var i = U16(entry + 2); i > 0; i--)
            {
                var flags = U16(aux + 4);
                needs.Add(new(library, String(U32(aux + 8)), U16(aux + 6), (flags & VerFlgWeak) != 0, aux + 4));
                aux += U32(aux + 12);
            }

            entry += U32(entry + 12);
        }

        return needs;
    }

    /// <summary>Names of the versions that this library itself defines.</summary>
    public IReadOnlySet<string> VersionDefinitions()
    {
        var names = new HashSet<string>(StringComparer.Ordinal);
        if (!_dynamic.TryGetValue(DtVerdef, out var address))
            return names;
        var entry = Offset(address);
        for (var left = _dynamic[DtVerdefnum]; left > 0; left--)
        {
            names.Add(String(U32(entry + U32(entry + 12))));
            entry += U32(entry + 16);
        }

        return names;
    }

    /// <summary>Names of the dynamic symbols bound to a version index.</summary>
    public IReadOnlyList<string> SymbolsOfVersion(ushort index)
    {
        // The symbol table has no length of its own; linkers place the string table right behind it.
        var symbols = Offset(_dynamic[DtSymtab]);
        var count = (Offset(_dynamic[DtStrtab]) - symbols) / 24;
        var versions = Offset(_dynamic[DtVersym]);
        var names = new List<string>();
        for (var i = 1L; i < count; i++)
        {
            if ((U16(versions + 2 * i) & 0x7fff) == index)
                names.Add(String(U32(symbols + 24 * i)));
        }

        return names;
    }

    /// <summary>A copy of the file in which one requirement is weak: one bit differs.</summary>
    public byte[] WithWeak(ElfVersionNeed need)
    {
        var copy = (byte[])_file.Clone();
        BinaryPrimitives.WriteUInt16LittleEndian(copy.AsSpan((int)need.FlagsOffset), (ushort)(U16(need.FlagsOffset) | VerFlgWeak));
        return copy;
    }

    private void ReadDynamic()
    {
        if (_file.Length < 64 || _file[0] != 0x7f || _file[1] != 'E' || _file[2] != 'L' || _file[3] != 'F' || _file[4] != 2 || _file[5] != 1)
            throw new BadImageFormatException("not a 64-bit little-endian ELF file");
        var header = I64(32);
        int size = U16(54), count = U16(56);
        (long Offset, long Size)? dynamic = null;
        for (var i = 0; i < count; i++)
        {
            var at = header + i * size;
            var (type, offset, address, length) = (U32(at), I64(at + 8), I64(at + 16), I64(at + 32));
            if (type == 1)
                _segments.Add((address, offset, length));
            else if (type == 2)
                dynamic = (offset, length);
        }

        if (dynamic is not { } section)
            throw new BadImageFormatException("no dynamic section: not a shared library");
        for (var at = section.Offset; at < section.Offset + section.Size && I64(at) != 0; at += 16)
            _dynamic[I64(at)] = I64(at + 8);
        if (!_dynamic.ContainsKey(DtStrtab) || !_dynamic.ContainsKey(DtSymtab))
            throw new BadImageFormatException("no dynamic string or symbol table");
    }

    private long Offset(long address)
    {
        foreach (var (start, offset, size) in _segments)
        {
            if (address >= start && address < start + size)
                return address - start + offset;
        }

        throw new BadImageFormatException($"address 0x{address:x} lies in no loaded segment");
    }

    private ReadOnlySpan<byte> At(long offset, int length) =>
        offset < 0 || offset > _file.Length - length ? throw new BadImageFormatException($"offset 0x{offset:x} lies outside the file") : _file.AsSpan((int)offset, length);

    private ushort U16(long offset) => BinaryPrimitives.ReadUInt16LittleEndian(At(offset, 2));

    private uint U32(long offset) => BinaryPrimitives.ReadUInt32LittleEndian(At(offset, 4));

    private long I64(long offset) => BinaryPrimitives.ReadInt64LittleEndian(At(offset, 8));

    private string String(uint index)
    {
        var bytes = _file.AsSpan((int)(Offset(_dynamic[DtStrtab]) + index));
        var end = bytes.IndexOf((byte)0);
        return Encoding.ASCII.GetString(end < 0 ? bytes : bytes[..end]);
    }
}
