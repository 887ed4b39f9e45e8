using System.Runtime.InteropServices;

namespace AdjointDpm.Client.Rendering.Pictures;

/// <summary>The terminal that this process was started from. For the time of a question it gives what comes at once and shows nothing of it.</summary>
internal sealed partial class TerminalLine(string path = "/dev/tty") : ITerminalLine
{
    private const int ReadWrite = 2, NoControllingTerminal = 0x100, Now = 0, Readable = 1;

    /// <summary>More than struct termios has on any system.</summary>
    private const int SettingsBytes = 256;

    public byte[]? Ask(ReadOnlySpan<byte> question, Func<ReadOnlySpan<byte>, bool> suffices, TimeSpan patience)
    {
        if (!OperatingSystem.IsLinux() && !OperatingSystem.IsMacOS())
            return null;
        var line = Open(path, ReadWrite | (OperatingSystem.IsLinux() ? NoControllingTerminal : 0));
        if (line < 0)
            return null;
        try
        {
            var (kept, raw) = (new byte[SettingsBytes], new byte[SettingsBytes]);
            // One in the background would be stopped for touching the terminal.
            if (ForegroundGroup(line) is var group && group >= 0 && group != OwnGroup() || GetSettings(line, kept) != 0)
                return null;
            kept.CopyTo(raw, 0);
            MakeRaw(raw);
            if (SetSettings(line, Now, raw) != 0)
                return null;
            try
            {
                return Write(line, question, (nuint)question.Length) == question.Length ? Read(line, suffices, patience) : null;
            }
            finally
            {
                _ = SetSettings(line, Now, kept);
            }
        }
        finally
        {
            _ = Close(line);
        }
    }

    private static byte[] Read(int line, Func<ReadOnlySpan<byte>, bool> suffices, TimeSpan patience)
    {
        var (answer, length, began) = (new byte[1024], 0, TimeProvider.System.GetTimestamp());
        while (length < answer.Length)
        {
            var left = patience - TimeProvider.System.GetElapsedTime(began);
            var wait = new Wait { Line = line, Wanted = Readable };
            if (left <= TimeSpan.Zero || Poll(ref wait, 1, (int)Math.Ceiling(left.TotalMilliseconds)) <= 0)
                break;
            var got = Read(line, answer.AsSpan(length), (nuint)(answer.Length - length));
            if (got <= 0)
                break;
            length += (int)got;
            if (suffices(answer.AsSpan(0, length)))
                break;
        }

        return answer[..length];
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Wait
    {
        public int Line;
        public short Wanted;
        public short Happened;
    }

    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "close")]
    private static partial int Close(int line);

    [LibraryImport("libc", EntryPoint = "read")]
    private static partial nint Read(int line, Span<byte> into, nuint count);

    [LibraryImport("libc", EntryPoint = "write")]
    private static partial nint Write(int line, ReadOnlySpan<byte> bytes, nuint count);

    [LibraryImport("libc", EntryPoint = "poll")]
    private static partial int Poll(ref Wait wait, nuint count, int milliseconds);

    [LibraryImport("libc", EntryPoint = "tcgetattr")]
    private static partial int GetSettings(int line, byte[] settings);

    [LibraryImport("libc", EntryPoint = "tcsetattr")]
    private static partial int SetSettings(int line, int when, byte[] settings);

    [LibraryImport("libc", EntryPoint = "cfmakeraw")]
    private static partial void MakeRaw(byte[] settings);

    [LibraryImport("libc", EntryPoint = "tcgetpgrp")]
    private static partial int ForegroundGroup(int line);

    [LibraryImport("libc", EntryPoint = "getpgrp")]
    private static partial int OwnGroup();
}
