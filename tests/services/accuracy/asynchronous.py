"""One event loop: aiohttp as server and client, asyncpg."""

import asyncio
import os

import aiohttp
from aiohttp import web
import asyncpg

import plan


class Service:
    async def start(self, _app):
        connector = aiohttp.TCPConnector(limit=plan.POOL)
        self.http = aiohttp.ClientSession(connector=connector)
        self.sql = await asyncpg.create_pool(plan.DATABASE_URL, min_size=plan.POOL, max_size=plan.POOL)
        self.background = set()

    async def serve(self, request):
        await request.read()
        nonce = plan.nonce_of(request.path)
        answered = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self.work(nonce, answered))
        self.background.add(task)
        task.add_done_callback(self.background.discard)
        return web.Response(text=await answered, content_type="application/json")

    async def work(self, nonce, answered):
        try:
            await self.carry_out(nonce, answered.set_result)
            plan.done(nonce, "-")
        except Exception as error:
            plan.failed(nonce, error)
            if not answered.done():
                answered.set_exception(error)

    async def carry_out(self, cause, answer):
        transaction = None
        for step in plan.read(cause):
            word = step[0]
            if word == "think":
                await asyncio.sleep(step[1])
            elif word == "answer":
                answer(step[1])
            elif word == "begin":
                connection = await self.sql.acquire()
                transaction = connection.transaction()
                await transaction.start()
            elif word == "commit":
                await transaction.commit()
                await self.sql.release(connection)
                transaction = None
            elif word == "together":
                await asyncio.gather(*(self.single(branch, cause) for branch in step[1]))
            elif word == "sql" and transaction:
                await connection.fetch(step[3], *step[2])
                plan.done(step[1], cause)
            else:
                await self.single(step, cause)

    async def single(self, step, cause):
        if step[0] == "http":
            _, _, method, target, body = step
            headers = {"content-type": "application/json"} if body else {}
            url = f"http://{plan.BACKEND[0]}:{plan.BACKEND[1]}{target}"
            async with self.http.request(method, url, data=body, headers=headers) as response:
                await response.read()
        else:
            await self.sql.fetch(step[3], *step[2])
        plan.done(step[1], cause)


service = Service()
app = web.Application()
app.on_startup.append(service.start)
app.router.add_route("*", "/{path:.*}", service.serve)
web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=lambda *_: print("ready", flush=True), access_log=None)
