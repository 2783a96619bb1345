// HttpListener and HttpWebRequest on Mono's thread pool: callbacks on whatever pool thread is free. HTTP only.
using System;
using System.IO;
using System.Net;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

static class Service
{
    static readonly string Backend = "http://127.0.0.1:" + Environment.GetEnvironmentVariable("BACKEND_PORT");
    static readonly string Plans = Environment.GetEnvironmentVariable("PLANS");
    static readonly FileStream Log = new FileStream(
        Environment.GetEnvironmentVariable("LOG"), FileMode.Append, FileAccess.Write, FileShare.ReadWrite);

    static void Write(string line)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(line + "\n");
        lock (Log)
        {
            Log.Write(bytes, 0, bytes.Length);
            Log.Flush();
        }
    }

    static async Task Call(string line, string cause)
    {
        string[] part = line.Split(new[] { ' ' }, 5);
        var request = (HttpWebRequest)WebRequest.Create(Backend + part[3]);
        request.Method = part[2];
        if (part.Length > 4)
        {
            byte[] body = Encoding.UTF8.GetBytes(part[4]);
            request.ContentType = "application/json";
            request.ContentLength = body.Length;
            using (Stream stream = await request.GetRequestStreamAsync().ConfigureAwait(false))
            {
                await stream.WriteAsync(body, 0, body.Length).ConfigureAwait(false);
            }
        }
        using (WebResponse response = await request.GetResponseAsync().ConfigureAwait(false))
        using (var reader = new StreamReader(response.GetResponseStream()))
        {
            await reader.ReadToEndAsync().ConfigureAwait(false);
        }
        Write(part[1] + " " + cause);
    }

    static async Task CarryOut(string cause, Func<string, Task> answer)
    {
        string[] lines = File.ReadAllLines(Plans + "/" + cause);
        for (int i = 0; i < lines.Length; i++)
        {
            string[] part = lines[i].Split(new[] { ' ' }, 2);
            switch (part[0])
            {
                case "think":
                    await Task.Delay(int.Parse(part[1])).ConfigureAwait(false);
                    break;
                case "answer":
                    await answer(part[1]).ConfigureAwait(false);
                    break;
                case "together":
                    var branches = new Task[int.Parse(part[1])];
                    for (int n = 0; n < branches.Length; n++)
                    {
                        branches[n] = Call(lines[++i], cause);
                    }
                    await Task.WhenAll(branches).ConfigureAwait(false);
                    break;
                default:
                    await Call(lines[i], cause).ConfigureAwait(false);
                    break;
            }
        }
    }

    static async Task Serve(HttpListenerContext context)
    {
        using (var reader = new StreamReader(context.Request.InputStream))
        {
            await reader.ReadToEndAsync().ConfigureAwait(false);
        }
        string path = context.Request.Url.AbsolutePath;
        string nonce = path.Substring(path.LastIndexOf('/') + 1);
        try
        {
            await CarryOut(nonce, async text =>
            {
                byte[] body = Encoding.UTF8.GetBytes(text);
                context.Response.ContentType = "application/json";
                context.Response.ContentLength64 = body.Length;
                await context.Response.OutputStream.WriteAsync(body, 0, body.Length).ConfigureAwait(false);
                context.Response.Close();
            }).ConfigureAwait(false);
            Write(nonce + " -");
        }
        catch (Exception error)
        {
            Write("! " + nonce + " " + error.ToString().Replace("\n", " "));
            context.Response.Abort();
        }
    }

    static void Main()
    {
        ServicePointManager.DefaultConnectionLimit = int.Parse(Environment.GetEnvironmentVariable("POOL"));
        ServicePointManager.Expect100Continue = false;
        ThreadPool.SetMinThreads(16, 16);
        var listener = new HttpListener();
        listener.Prefixes.Add("http://127.0.0.1:" + Environment.GetEnvironmentVariable("PORT") + "/");
        listener.Start();
        while (true)
        {
            HttpListenerContext context = listener.GetContext();
            Task.Run(() => Serve(context));
        }
    }
}
