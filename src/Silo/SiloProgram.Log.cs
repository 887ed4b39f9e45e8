namespace AdjointDpm.Silo;

public static partial class SiloProgram
{
    [LoggerMessage(Level = LogLevel.Information, Message = "{Note}")]
    private static partial void LogNative(ILogger logger, string note);

    [LoggerMessage(Level = LogLevel.Information, Message = "Silo {Name} is ready: silo port {SiloPort}, gateway port {GatewayPort}, tensor port {TensorPort}, http://{Address}:{HttpPort}, devices {Devices}, data in {DataFolder}.")]
    private static partial void LogReady(ILogger logger, string name, int siloPort, int gatewayPort, int tensorPort, string address, int httpPort, string devices, string dataFolder);
}
