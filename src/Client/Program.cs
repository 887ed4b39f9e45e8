using AdjointDpm.Client.CommandLine;
using AdjointDpm.Client.Rendering;

var terminal = Terminal.Real();
using var interruptions = new Interruptions(terminal.Note, Environment.Exit);
interruptions.Listen();
return await AdpmCommandLine.InvokeAsync(args, ClientContext.Real(terminal, interruptions), Console.Out, interruptions.Token);
