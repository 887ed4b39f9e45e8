using System.CommandLine;
using System.Text;
using AdjointDpm.Client.CommandLine;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

internal static class LogsCommand
{
    private static readonly TimeSpan Look = TimeSpan.FromSeconds(1);

    /// <summary>Bytes from the end that are looked through.</summary>
    private const int Most = 8 << 20;

    public static Command Create(ClientContext context)
    {
        var command = new Command("logs", "Print what the silos of a cluster on this machine have written, the newest last; with an ID only what names it.");
        var id = new Argument<string?>("ID") { Description = "An experiment or trial, or any other word of a message.", Arity = ArgumentArity.ZeroOrOne };
        var silo = new Option<string?>("--silo") { Description = "Only this silo.", HelpName = "name" };
        var limit = new Option<int>("--limit") { Description = "At most this many messages of each silo.", DefaultValueFactory = _ => 50, HelpName = "n" }.Within(0);
        var follow = new Option<bool>("--follow", "-f") { Description = "Then go on with what they write, until Ctrl-C." };
        command.Arguments.Add(id);
        foreach (var option in new Option[] { silo, limit, follow }) command.Options.Add(option);
        var target = new TargetOptions(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var where = target.Target(parsed, context);
            if (where.DataFolder is not { } folder)
                throw new CommandFailure(ExitCodes.Failed, $"{where} keeps its logs where its silos run.", "Look there, for instance with 'kubectl logs'; for a cluster on this machine name its folder with --data.");
            var logs = Path.Combine(folder, "logs");
            var files = Directory.Exists(logs) ? Directory.GetFiles(logs, (parsed.GetValue(silo) ?? "*") + ".log").Order(StringComparer.Ordinal).ToList() : [];
            if (files.Count == 0)
                throw new CommandFailure(ExitCodes.Failed, $"There is no log{(parsed.GetValue(silo) is { } name ? $" of '{name}'" : "")} in '{context.Short(logs)}'.", "Silos that 'adpm run' and 'adpm demo' start write there.");
            var readers = files.Select(file => new Reader(file, files.Count > 1 ? Path.GetFileNameWithoutExtension(file) + "  " : "", parsed.GetValue(id))).ToList();
            foreach (var reader in readers)
                foreach (var message in reader.Read().TakeLast(parsed.GetValue(limit))) context.Terminal.WriteRaw(message);
            if (!parsed.GetValue(follow)) return ExitCodes.Ok;
            if (context.Terminal.Live) context.Terminal.Note(Markup.Escape($"Following {string.Join(", ", files.Select(context.Short))}. Ctrl-C ends."));
            using var timer = new PeriodicTimer(Look, context.Time);
            try
            {
                while (await timer.WaitForNextTickAsync(cancellationToken))
                    foreach (var reader in readers)
                        foreach (var message in reader.Read()) context.Terminal.WriteRaw(message);
            }
            catch (OperationCanceledException)
            {
                // Ctrl-C is how it ends.
            }

            return ExitCodes.Ok;
        });
        return command;
    }

    /// <summary>A log that grows: its messages, each a line and those below it that are indented.</summary>
    private sealed class Reader(string file, string name, string? word)
    {
        private long? _at;

        /// <summary>What was written since the last time.</summary>
        public List<string> Read()
        {
            using var stream = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            // One that is shorter than it was was begun anew.
            var from = _at is { } at && at <= stream.Length ? at : Math.Max(0, stream.Length - Most);
            stream.Position = from;
            var bytes = new byte[stream.Length - from];
            stream.ReadExactly(bytes);
            // What has no end yet is read the next time.
            var end = Array.LastIndexOf(bytes, (byte)'\n') + 1;
            _at = from + end;
            var messages = new List<string>();
            foreach (var line in Encoding.UTF8.GetString(bytes, 0, end).Split('\n', StringSplitOptions.RemoveEmptyEntries))
                if (messages.Count > 0 && line[0] == ' ') messages[^1] += " " + line.Trim();
                else messages.Add(name + line);
            return word is null ? messages : messages.FindAll(message => message.Contains(word, StringComparison.Ordinal));
        }
    }
}
