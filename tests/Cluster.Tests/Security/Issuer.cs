using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace AdjointDpm.Cluster.Tests.Security;

/// <summary>An OpenID Connect issuer as small as one can be: discovery, keys, and tokens signed with RSA.</summary>
internal sealed class Issuer : IAsyncDisposable
{
    private readonly RSA _key = RSA.Create(2048);
    private readonly RSA _forger = RSA.Create(2048);
    private WebApplication? _app;

    public string Address { get; private set; } = "";

    public static async Task<Issuer> StartAsync()
    {
        var issuer = new Issuer();
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        var app = builder.Build();
        app.Urls.Add("http://127.0.0.1:0");
        app.MapGet("/.well-known/openid-configuration", () => Results.Text(new JsonObject { ["issuer"] = issuer.Address, ["jwks_uri"] = issuer.Address + "/keys" }.ToJsonString(), "application/json"));
        var key = issuer._key.ExportParameters(false);
        app.MapGet("/keys", () => Results.Text(new JsonObject
        {
            ["keys"] = new JsonArray(new JsonObject { ["kty"] = "RSA", ["use"] = "sig", ["alg"] = "RS256", ["kid"] = "one", ["n"] = Base64Url.EncodeToString(key.Modulus), ["e"] = Base64Url.EncodeToString(key.Exponent) }),
        }.ToJsonString(), "application/json"));
        await app.StartAsync(TestContext.Current.CancellationToken);
        (issuer._app, issuer.Address) = (app, app.Urls.First());
        return issuer;
    }

    /// <summary>A token with these claims, for an hour unless they say otherwise.</summary>
    public string Sign(JsonObject claims, bool forged)
    {
        var now = TimeProvider.System.GetUtcNow();
        var all = new JsonObject { ["iss"] = Address, ["aud"] = "adjointdpm", ["nbf"] = now.AddMinutes(-1).ToUnixTimeSeconds(), ["exp"] = now.AddHours(1).ToUnixTimeSeconds() };
        foreach (var (name, value) in claims)
            all[name] = value?.DeepClone();
        var text = $"{Encoded("{\"alg\":\"RS256\",\"typ\":\"JWT\",\"kid\":\"one\"}")}.{Encoded(all.ToJsonString())}";
        return $"{text}.{Base64Url.EncodeToString((forged ? _forger : _key).SignData(Encoding.ASCII.GetBytes(text), HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1))}";
    }

    public async ValueTask DisposeAsync()
    {
        await _app!.DisposeAsync();
        _key.Dispose();
        _forger.Dispose();
    }

    private static string Encoded(string text) => Base64Url.EncodeToString(Encoding.UTF8.GetBytes(text));
}
