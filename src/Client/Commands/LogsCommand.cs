using System.CommandLine;
using System.Text;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Connection;
using AdjointDpm.Client.Json;
using Spectre.Console;

namespace AdjointDpm.Client.Commands;

internal static class LogsCommand
{
    private static readonly TimeSpan Look = TimeSpan.FromSeconds(1);

    /// <summary>Messages of a silo that are asked for at once.</summary>
    private const int MostAtOnce = 1000;

    /// <summary>Bytes from the end that are looked through.</summary>
    private const int Most = 8 << 20;

    public static Command Create(ClientContext context)
    {
        var command = new Command("logs", "Print what the silos of a cluster have written, the newest last; with an ID only what names it. Of a cluster on this machine from its files, else the newest that the silos still have.");
        var id = new Argument<string?>("ID") { Description = "An experiment or trial, or any other word of a message.", Arity = ArgumentArity.ZeroOrOne };
        var silo = new Option<string?>("--silo") { Description = "Only this silo.", HelpName = "name" };
        var limit = new Option<int>("--limit") { Description = "At most this many messages of each silo.", DefaultValueFactory = _ => 50, HelpName = "n" }.Within(0);
        var follow = new Option<bool>("--follow", "-f") { Description = "Then go on with what they write, until Ctrl-C." };
        var json = new Option<bool>("--json") { Description = "Print every message as a line of JSON." };
        id.CompletionSources.Add(completion => IdCompletions.Of(context, completion, trials: true));
        command.Arguments.Add(id);
        foreach (var option in new Option[] { silo, limit, follow, json }) command.Options.Add(option);
        var target = new TargetOptions(command);
        command.SetAction(async (parsed, cancellationToken) =>
        {
            var where = target.Target(parsed, context);
            if (where.DataFolder is not { } folder)
            {
                await FromSilosAsync(parsed, cancellationToken);
                return ExitCodes.Ok;
            }

            var logs = Path.Combine(folder, "logs");
            var files = Directory.Exists(logs) ? Directory.GetFiles(logs, (parsed.GetValue(silo) ?? "*") + ".log").Order(StringComparer.Ordinal).ToList() : [];
            if (files.Count == 0)
                throw new CommandFailure(ExitCodes.Failed, $"There is no log{(parsed.GetValue(silo) is { } name ? $" of '{name}'" : "")} in '{context.Short(logs)}'.", "Silos that 'adpm run' and 'adpm demo' start write there.");
            var readers = files.Select(file => new Reader(file, parsed.GetValue(id))).ToList();
            foreach (var reader in readers)
                foreach (var message in reader.Read().TakeLast(parsed.GetValue(limit))) Write(reader, message);
            if (!parsed.GetValue(follow)) return ExitCodes.Ok;
            if (context.Terminal.Live) context.Terminal.Note(Markup.Escape($"Following {string.Join(", ", files.Select(context.Short))}. Ctrl-C ends."));
            using var timer = new PeriodicTimer(Look, context.Time);
            try
            {
                while (await timer.WaitForNextTickAsync(cancellationToken))
                    foreach (var reader in readers)
                        foreach (var message in reader.Read()) Write(reader, message);
            }
            catch (OperationCanceledException)
            {
                // Ctrl-C is how it ends.
            }

            return ExitCodes.Ok;

            void Write(Reader reader, string message) => context.Terminal.WriteRaw(parsed.GetValue(json) ? ClientJson.Line(new LogDocument(reader.Silo, message)) : files.Count > 1 ? $"{reader.Silo}  {message}" : message);
        });
        return command;

        async Task FromSilosAsync(ParseResult parsed, CancellationToken cancellationToken)
        {
            var (cluster, where) = await target.ConnectAsync(parsed, context, cancellationToken);
            await using (cluster)
            {
                var known = new Dictionary<string, long>();
                await TellAsync(cluster, known, parsed, parsed.GetValue(limit), cancellationToken);
                if (known.Count == 0) context.Terminal.Note(Markup.Escape($"No silo at {where} has said anything yet."));
                if (!parsed.GetValue(follow)) return;
                using var timer = new PeriodicTimer(Look, context.Time);
                try
                {
                    while (await timer.WaitForNextTickAsync(cancellationToken)) await TellAsync(cluster, known, parsed, MostAtOnce, cancellationToken);
                }
                catch (OperationCanceledException)
                {
                    // Ctrl-C is how it ends.
                }
            }
        }

        async Task TellAsync(IClusterConnection cluster, Dictionary<string, long> known, ParseResult parsed, int most, CancellationToken cancellationToken)
        {
            // With a word as many are looked through as there are, as in a file.
            var word = parsed.GetValue(id);
            var messages = await cluster.GetLogsAsync(known, word is null ? most : MostAtOnce, cancellationToken);
            foreach (var of in messages.Where(message => parsed.GetValue(silo) is not { } only || only == message.Silo).GroupBy(message => message.Silo))
            {
                known[of.Key] = of.Max(message => message.Number);
                foreach (var message in of.Where(message => word is null || message.Text.Contains(word, StringComparison.Ordinal)).TakeLast(most))
                    context.Terminal.WriteRaw(parsed.GetValue(json) ? ClientJson.Line(new LogDocument(message.Silo, $"{message.Level}: {message.Text}") { Time = message.Time })
                        : $"{message.Silo}  {TimeZoneInfo.ConvertTime(message.Time, context.Time.LocalTimeZone):yyyy-MM-dd HH:mm:ss}  {message.Level}: {message.Text}");
            }
        }
    }

    /// <summary>A log that grows: its messages, each a line and those below it that are indented.</summary>
    private sealed class Reader(string file, string? word)
    {
        public string Silo { get; } = Path.GetFileNameWithoutExtension(file);

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
                else messages.Add(line);
            return word is null ? messages : messages.FindAll(message => message.Contains(word, StringComparison.Ordinal));
        }
    }
}
