using AdjointDpm.Silo;

return await SiloProgram.RunAsync(args);
