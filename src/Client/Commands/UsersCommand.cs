using System.CommandLine;
using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Json;
using AdjointDpm.Grains.Security;

namespace AdjointDpm.Client.Commands;

/// <summary>Users of a secured cluster.</summary>
internal static class UsersCommand
{
    public static Command Create(ClientContext context)
    {
        var command = new Command("users", "Keep the users file of a secured cluster (Security:UsersFile of its silos).") { Add(context) };
        return command;
    }

    private static Command Add(ClientContext context)
    {
        var command = new Command("add", "Add a user, or give one a new token. Silos read the file again within seconds; the old token is void then.");
        var users = new Argument<string>("FILE") { Description = "Users file; made when it is not there. Tokens stand in it as SHA-256 only." };
        var name = new Argument<string>("NAME") { Description = "Name of the user." };
        var project = new Option<string>("--project") { Description = "Project of the user, or * for all.", Required = true };
        var role = new Option<Role>("--role") { Description = "view: look; submit: also start and control experiments of the project; admin: also cordon workers, name TorchScript, sidecars and files anywhere.", Required = true };
        var token = new Option<string>("--token-file") { Description = "File that gets the token, for the user alone to read.", HelpName = "file", Required = true };
        command.Arguments.Add(users);
        command.Arguments.Add(name);
        command.Options.Add(project);
        command.Options.Add(role);
        command.Options.Add(token);
        var json = SharedOptions.Json();
        command.Options.Add(json);
        command.SetAction(parsed =>
        {
            var secret = UsersFile.NewToken();
            var place = Path.GetFullPath(Path.Combine(context.CurrentDirectory, parsed.GetRequiredValue(token)));
            UsersFile.Put(Path.GetFullPath(Path.Combine(context.CurrentDirectory, parsed.GetRequiredValue(users))), parsed.GetRequiredValue(name), parsed.GetRequiredValue(project), parsed.GetRequiredValue(role), secret);
            SecretFile.Write(place, secret + "\n");
            context.Terminal.WriteRaw(parsed.GetValue(json) ? ClientJson.Text(new FilesDocument([place], null)) : context.Short(place));
            return ExitCodes.Ok;
        });
        return command;
    }
}
