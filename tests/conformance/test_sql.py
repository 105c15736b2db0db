"""SQL as pipelines, compared with DuckDB: a list of queries, and queries that hypothesis draws."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest

import wherry as wh

ROWS = 60
SALES = pa.table(
    {
        "id": pa.array(range(ROWS), pa.int64()),
        "shop": pa.array([n % 7 if n % 11 else None for n in range(ROWS)], pa.int32()),
        "price": pa.array([n / 4 - 3 if n % 5 else None for n in range(ROWS)], pa.float64()),
        "discount": pa.array(
            [Decimal(n % 11) / 100 if n % 13 else None for n in range(ROWS)], pa.decimal128(15, 2)
        ),
        "what": pa.array(
            [["ab", "a%b", "xaby", "", "a_c", "A\\b", None][n % 7] for n in range(ROWS)]
        ),
        "day": pa.array(
            [date(1994, 1, 1) + timedelta(days=9 * n) if n % 9 else None for n in range(ROWS)]
        ),
        "moment": pa.array(
            [datetime(1994, 1, 1) + timedelta(hours=7 * n) for n in range(ROWS)],
            pa.timestamp("us"),
        ),
        "paid": pa.array([[True, False, None][n % 3] for n in range(ROWS)]),
        "Odd Name": pa.array(range(ROWS, 0, -1), pa.int16()),
    }
)
SHOPS = pa.table(
    {
        "shop": pa.array([0, 1, 2, 3, 3, 9, None], pa.int32()),
        "town": ["york", "hull", "leeds", "bath", "wells", "ely", "nowhere"],
        "price": [1.0, 2.0, None, 4.0, 5.0, 6.0, 7.0],
    }
)
TABLES = {"sales": SALES, "shops": SHOPS}

QUERIES = """
SELECT * FROM sales
SELECT id, PRICE, "Odd Name", Shop AS s FROM Sales
SELECT s.id, S.Price FROM sales AS s WHERE s.id < 3
SELECT s.* FROM sales s
SELECT id + 1 AS a, -price AS b, price * 2 - id AS c, id / 4 AS d, 0.06 - 0.01 AS e FROM sales
SELECT id FROM sales WHERE discount BETWEEN 0.06 - 0.01 AND 0.06 + 0.01
SELECT id FROM sales WHERE discount = 0.07 OR discount >= .1
SELECT id FROM sales WHERE discount NOT BETWEEN 0.02 AND 0.09
SELECT id FROM sales WHERE price > 3 AND NOT (shop = 2 OR shop IS NULL)
SELECT id FROM sales WHERE paid
SELECT id FROM sales WHERE NOT paid
SELECT id FROM sales WHERE paid IS TRUE OR price IS NULL
SELECT id FROM sales WHERE paid IS NOT TRUE
SELECT id FROM sales WHERE paid IS FALSE AND what IS NOT NULL
SELECT id FROM sales WHERE shop IN (1, 3, 5)
SELECT id FROM sales WHERE shop NOT IN (1, 3, 5)
SELECT id FROM sales WHERE shop IN (1, NULL)
SELECT id FROM sales WHERE shop NOT IN (1, NULL)
SELECT id FROM sales WHERE what IN ('ab', '')
SELECT id FROM sales WHERE day IN ('1994-01-10', DATE '1994-01-19')
SELECT id FROM sales WHERE shop = NULL
SELECT id FROM sales WHERE what LIKE 'a%'
SELECT id FROM sales WHERE what LIKE '%b'
SELECT id FROM sales WHERE what LIKE '%ab%'
SELECT id FROM sales WHERE what LIKE 'a_b'
SELECT id FROM sales WHERE what LIKE 'ab'
SELECT id FROM sales WHERE what LIKE '%'
SELECT id FROM sales WHERE what LIKE ''
SELECT id FROM sales WHERE what LIKE '%\\b'
SELECT id FROM sales WHERE what LIKE 'a!%b' ESCAPE '!'
SELECT id FROM sales WHERE what LIKE 'a!_%' ESCAPE '!'
SELECT id FROM sales WHERE what NOT LIKE 'a%'
SELECT id FROM sales WHERE starts_with(what, 'a') OR contains(what, '%') OR ends_with(what, 'y')
SELECT id FROM sales WHERE day >= DATE '1994-03-01' AND day < DATE '1994-03-01' + INTERVAL '1' YEAR
SELECT id FROM sales WHERE day >= '1994-03-01' AND '1994-12-31' >= day
SELECT id FROM sales WHERE day <= DATE '1995-03-31' - INTERVAL 1 MONTH
SELECT id FROM sales WHERE day <= DATE '1995-03-31' - INTERVAL 90 DAYS
SELECT id FROM sales WHERE moment >= TIMESTAMP '1994-01-05 12:00:00' AND moment < '1994-01-09'
SELECT id FROM sales WHERE moment - INTERVAL 3 HOUR > TIMESTAMP '1994-01-12'
SELECT id, day + INTERVAL 2 DAY AS later FROM sales
SELECT year(day) AS y, month(day) AS m, extract(day FROM moment) AS d FROM sales
SELECT id, CASE WHEN price > 3 THEN 1 WHEN price > 1 THEN 2 ELSE 0 END AS c FROM sales
SELECT id, CASE shop WHEN 1 THEN 'one' WHEN 2 THEN 'two' END AS c FROM sales
SELECT id, CASE WHEN paid THEN NULL ELSE price END AS c FROM sales
SELECT id, coalesce(price, shop, 0) AS c, nullif(shop, 3) AS n, if(paid, 1, 2) AS i FROM sales
SELECT CAST(shop AS BIGINT) AS a, id::DOUBLE AS b, CAST(moment AS DATE) AS c FROM sales
SELECT CAST(NULL AS INT) AS a, CAST('1994-01-01' AS DATE) AS b, 'x' AS c, TRUE AS d FROM sales
SELECT count(*) AS n, count(price) AS p, count(DISTINCT shop) AS s, sum(id) AS t FROM sales
SELECT avg(price) AS a, min(day) AS b, max(what) AS c, sum(discount) AS d FROM sales
SELECT stddev(price) AS a, stddev_pop(price) AS b, variance(id) AS c, var_pop(id) AS d FROM sales
SELECT sum(price) FILTER (WHERE shop = 2) AS a, count(*) FILTER (WHERE paid) AS b FROM sales
SELECT count(shop) FILTER (WHERE paid) AS a, avg(id) FILTER (WHERE id > 100) AS b FROM sales
SELECT sum(price * (1 - discount)) / count(*) + 1 AS a FROM sales
SELECT 100 * sum(CASE WHEN what LIKE 'a%' THEN price ELSE 0 END) / sum(price) AS share FROM sales
SELECT shop, count(*) AS n, sum(price) AS t FROM sales GROUP BY shop
SELECT shop AS s, max(id) AS n FROM sales GROUP BY s
SELECT shop, paid, min(price) AS n FROM sales GROUP BY 1, 2
SELECT shop, paid, min(price) AS n FROM sales GROUP BY ALL
SELECT year(day) AS y, count(*) AS n FROM sales GROUP BY year(day)
SELECT year(day) + 1 AS y, count(*) AS n FROM sales GROUP BY year(day)
SELECT count(*) AS n FROM sales GROUP BY shop
SELECT shop FROM sales GROUP BY shop
SELECT shop, sum(price) AS t FROM sales GROUP BY shop HAVING count(*) > 7
SELECT shop, sum(price) AS t FROM sales GROUP BY shop HAVING t > 40 AND shop > 1
SELECT sum(price) AS t FROM sales HAVING count(*) > 1000
SELECT what, sum(price) AS t FROM sales WHERE price > 0 GROUP BY what HAVING sum(price) > 1
SELECT DISTINCT shop FROM sales
SELECT DISTINCT shop, paid FROM sales WHERE id > 10
SELECT DISTINCT count(*) AS n FROM sales GROUP BY shop
SELECT id, price FROM sales ORDER BY price, id
SELECT id, price FROM sales ORDER BY price DESC, id
SELECT id, price FROM sales ORDER BY price NULLS FIRST, id DESC
SELECT id, price FROM sales ORDER BY price DESC NULLS FIRST, id LIMIT 17
SELECT id FROM sales ORDER BY price * -1, id LIMIT 10
SELECT id, what FROM sales ORDER BY 2 DESC, 1 DESC
SELECT id AS n FROM sales ORDER BY n DESC LIMIT 5
SELECT -id AS id FROM sales ORDER BY id LIMIT 5
SELECT id FROM sales ORDER BY day, id FETCH FIRST 4 ROWS ONLY
SELECT id FROM sales LIMIT 0
SELECT id FROM sales LIMIT 7
SELECT DISTINCT shop FROM sales ORDER BY shop DESC NULLS FIRST
SELECT shop, sum(price) AS t FROM sales GROUP BY shop ORDER BY t DESC, shop LIMIT 3
SELECT shop FROM sales GROUP BY shop ORDER BY sum(price), count(*)
SELECT shop, count(*) AS n FROM sales GROUP BY shop ORDER BY count(*) DESC, 1
SELECT a + 1 AS b FROM (SELECT id * 2 AS a FROM sales WHERE id < 10) AS t WHERE a > 4
SELECT * FROM (SELECT shop, count(*) FROM sales GROUP BY shop) AS t(s, n) WHERE n > 8
WITH t AS (SELECT id, shop FROM sales WHERE id < 20), u AS (SELECT id FROM t) SELECT * FROM u
WITH t(a) AS (SELECT id FROM sales) SELECT a FROM t WHERE a < 3
SELECT id, town FROM sales JOIN shops ON sales.shop = shops.shop
SELECT id, town, shops.shop AS s FROM sales JOIN shops ON shops.shop = sales.shop AND id > 20
SELECT id, sales.price, shops.price AS p FROM sales JOIN shops USING (shop)
SELECT * FROM sales JOIN (SELECT shop, town FROM shops) USING (shop)
SELECT id, town, shops.shop AS s FROM sales LEFT JOIN shops ON sales.shop = shops.shop
SELECT id, shop, town FROM sales LEFT JOIN shops USING (shop)
SELECT id, town FROM sales LEFT JOIN shops ON sales.shop = shops.shop AND town <> 'hull'
SELECT id, town FROM sales LEFT JOIN shops ON sales.shop = shops.shop WHERE town IS NULL
SELECT id FROM sales SEMI JOIN shops ON sales.shop = shops.shop
SELECT id FROM sales ANTI JOIN shops ON sales.shop = shops.shop
SELECT id FROM sales WHERE shop IN (SELECT shop FROM shops WHERE town LIKE '%l%') AND id > 5
SELECT id, town FROM sales, shops WHERE sales.shop = shops.shop AND town = 'bath' AND id < 40
SELECT id, town FROM sales JOIN shops ON sales.shop = shops.shop WHERE sales.price > shops.price
SELECT id, town FROM sales s JOIN shops t ON s.shop = t.shop AND s.price > t.price
SELECT town, sum(s.price) AS t FROM sales s JOIN shops h ON s.shop = h.shop GROUP BY town
SELECT a.id, b.id AS other FROM sales a JOIN sales b ON a.id = b.id + 1
SELECT a.id, c.town AS t FROM sales a, shops b, shops c WHERE a.shop = b.shop AND b.shop = c.shop
SELECT a.id, c.town FROM sales a JOIN shops b ON a.shop = b.shop JOIN shops c ON b.price = c.price
SELECT n, town FROM (SELECT shop, count(*) AS n FROM sales GROUP BY 1) x JOIN shops USING (shop)
""".strip().splitlines()  # fmt: skip


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as connection:
        for name, table in TABLES.items():
            connection.register(name, table)
        yield connection
        for name in TABLES:
            connection.unregister(name)


def plain(value: object) -> object:
    """Give a value that is equal where SQL's types differ only in width."""
    if isinstance(value, Decimal):
        return plain(float(value))
    if isinstance(value, bool) or value is None:
        return repr(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day).isoformat()
    if isinstance(value, int | float):
        return (
            0.0 if value == 0 else float(f"{value:.12g}") if math.isfinite(value) else repr(value)
        )
    return value


def rows(table: pa.Table) -> list[tuple[object, ...]]:
    return [tuple(map(plain, row.values())) for row in table.to_pylist()]


def same(duck: duckdb.DuckDBPyConnection, query: str) -> None:
    wanted = duck.sql(query).to_arrow_table()
    seen = wh.sql(query, TABLES).collect()
    assert seen.column_names == wanted.column_names
    one, other = rows(seen), rows(wanted)
    if "ORDER BY" not in query and " LIMIT " not in query:
        one, other = sorted(one, key=repr), sorted(other, key=repr)
    assert one == other


@pytest.mark.parametrize("query", QUERIES)
def test_answers_are_those_of_duckdb(duck: duckdb.DuckDBPyConnection, query: str) -> None:
    same(duck, query)
