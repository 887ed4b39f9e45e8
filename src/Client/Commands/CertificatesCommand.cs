using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Json;
using AdjointDpm.Grains.Security;

namespace AdjointDpm.Client.Commands;

internal static class CertificatesCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("certificates", "Make a private authority and the certificates of a cluster: authority (keep its key offline), silo (Security:TlsFolder of every silo), client (--tls-folder). Once more in the same folder: new certificates of the same authority.");
        var folder = new Argument<string>("DIR") { Description = "Folder that gets authority, silo and client." };
        var days = new Option<int>("--days") { Description = "How long the certificates hold.", HelpName = "days", DefaultValueFactory = _ => 90 }.Within(1, 3650);
        command.Arguments.Add(folder);
        command.Options.Add(days);
        var json = SharedOptions.Json();
        command.Options.Add(json);
        command.SetAction(parsed =>
        {
            var place = Path.GetFullPath(Path.Combine(context.CurrentDirectory, parsed.GetRequiredValue(folder)));
            var files = ClusterCertificates.Make(place, TimeSpan.FromDays(parsed.GetValue(days)), context.Time.GetUtcNow()).ToList();
            if (parsed.GetValue(json)) context.Terminal.WriteRaw(ClientJson.Text(new FilesDocument(files, null)));
            else foreach (var file in files) context.Terminal.WriteRaw(context.Short(file));
            return ExitCodes.Ok;
        });
        return command;
    }
}
