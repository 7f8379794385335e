//! Reports add up to the entries and the nights they are made of, for one property and for all.

use std::fmt::Write;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::common::{Cluster, property};
use crate::http_server::{Server, first_property, json_of, populate, problem_of};
use crate::tables::created;

/// Books entries of the two properties of organisation 1, on the first day of this month and the last of the one before.
async fn book(server: &Server) -> (String, Vec<String>) {
    let this = chrono::Utc::now().format("%Y-%m-01").to_string();
    let first: chrono::NaiveDate = this.parse().unwrap();
    let before = first.pred_opt().unwrap();
    let mut token = String::new();
    for (side, house, cents, category, date) in [
        ("revenues", 10, 1_000, "rooms", before),
        ("revenues", 10, 500, "rooms", first),
        ("revenues", 10, 50, "bar", first),
        ("revenues", 11, 7, "rooms", first),
        ("expenses", 10, 80, "food", first),
        ("expenses", 11, 2_000, "roof", before),
    ] {
        let entry = json!({"property": property(house).uuid(), "amount_cents": cents, "category": category, "date": date});
        token = created(server.post(1, side, Uuid::now_v7(), &entry).await).await.1;
    }
    (token, vec![before.format("%Y-%m").to_string(), first.format("%Y-%m").to_string()])
}

/// `month revenue expense profit: category=cents …`, line by line.
fn shown(report: &Value) -> String {
    let mut text = String::new();
    for month in report["months"].as_array().unwrap() {
        let sums = ["revenue_cents", "expense_cents", "profit_cents"].map(|name| &month[name]);
        write!(text, "{} {} {} {}:", month["month"], sums[0], sums[1], sums[2]).unwrap();
        for side in ["revenues", "expenses"] {
            for line in month[side].as_array().unwrap() {
                write!(text, " {}={}", line["category"], line["amount_cents"]).unwrap();
            }
        }
        text.push('\n');
    }
    text.replace('"', "")
}

#[tokio::test]
async fn profit_and_loss_adds_up_by_month_and_category() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let server = Server::all(&cluster, "").await;
    let (token, months) = book(&server).await;
    let (before, this) = (&months[0], &months[1]);
    let all = server.get_after(1, "/reports/profit-and-loss", &token).await;
    assert_eq!(
        shown(&all),
        format!(
            "{before} 1000 2000 -1000: rooms=1000 roof=2000\n{this} 557 80 477: bar=50 rooms=507 food=80\n"
        )
    );
    assert_eq!([&all["revenue_cents"], &all["profit_cents"]], [&json!(1_557), &json!(-523)]);
    assert_eq!(all["months"][1]["revenues"][1]["entries"], 2);
    let path = format!("/reports/profit-and-loss?property={}&from={this}-15", first_property(1));
    let one = json_of(server.get(1, &path).await).await;
    assert_eq!(shown(&one), format!("{this} 550 80 470: bar=50 rooms=500 food=80\n"));
    let other = json_of(server.get(2, "/reports/profit-and-loss").await).await;
    assert_eq!((&other["months"], &other["profit_cents"]), (&json!([]), &json!(0)));
    let foreign = format!("/reports/profit-and-loss?property={}", first_property(1));
    assert_eq!(json_of(server.get(2, &foreign).await).await["months"], json!([]));

    for (bad, named) in [
        ("from=2020-01-01&to=2022-01-01", "24 months"),
        ("from=2026-02-01&to=2026-01-31", "later month"),
        ("from=2026", "from"),
        ("colour=red", "colour"),
    ] {
        for report in ["profit-and-loss", "occupancy"] {
            let (status, detail) =
                problem_of(server.get(1, &format!("/reports/{report}?{bad}")).await).await;
            assert_eq!(status, 400, "{report}?{bad}");
            assert!(detail.contains(named), "{report}?{bad}: {detail}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn nights_are_counted_in_the_month_they_lie_in() {
    let cluster = Cluster::start().await;
    populate(&cluster).await;
    let mut hospitality = cluster.admin("plimsoll_hospitality").await;
    sqlx::query(
        "INSERT INTO rooms (org_id, id, property_id, name, kind, beds) \
         SELECT 1, gen_random_uuid(), $1, n::text, 'double', 2 FROM generate_series(1, 3) n",
    )
    .bind(property(10).uuid())
    .execute(&mut hospitality)
    .await
    .unwrap();
    for (arrival, departure, status) in [
        ("2026-01-30", "2026-02-03", "checked_out"),
        ("2026-02-28", "2026-03-01", "booked"),
        ("2026-02-01", "2026-02-02", "cancelled"),
        ("2025-12-01", "2026-04-01", "checked_in"),
        ("2026-04-01", "2026-04-02", "booked"),
    ] {
        sqlx::query(
            "INSERT INTO reservations (org_id, id, property_id, guest_name, arrival, departure, status) \
             VALUES (1, gen_random_uuid(), $1, 'Ada', $2::date, $3::date, $4)",
        )
        .bind(property(10).uuid())
        .bind(arrival.parse::<chrono::NaiveDate>().unwrap())
        .bind(departure.parse::<chrono::NaiveDate>().unwrap())
        .bind(status)
        .execute(&mut hospitality)
        .await
        .unwrap();
    }
    let server = Server::all(&cluster, "").await;
    let path = "/reports/occupancy?from=2026-01-01&to=2026-03-01";
    let report = json_of(server.get(1, path).await).await;
    let months: Vec<_> = report["properties"].as_array().unwrap().iter().collect();
    let figures = |name: &str| months.iter().map(|m| m[name].clone()).collect::<Vec<_>>();
    assert_eq!(figures("month"), ["2026-01", "2026-02", "2026-03"]);
    assert_eq!(figures("nights_available"), [93, 84, 93]);
    assert_eq!(figures("nights_sold"), [31 + 2, 28 + 2 + 1, 31]);
    let other = json_of(server.get(1, &format!("{path}&property={}", property(11))).await).await;
    assert_eq!(other["properties"], json!([]));
    assert_eq!(json_of(server.get(2, path).await).await["properties"], json!([]));
    server.stop().await;
}
